//! The size of request bodies.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use serde_json::{Value, json};

use super::{Gateway, start, start_with};
use crate::support::listeners::{ListenerKind, Protocol};
use crate::support::wait::wait_for;

const MAX: usize = 100_000;
const PART: usize = 10_000;

fn routes() -> Value {
    json!([
        {"name": "limited", "path_prefix": "/limited", "max_body": MAX},
        {"name": "none", "path_prefix": "/none", "max_body": 0},
        {"name": "open", "path_prefix": "/open"}
    ])
}

/// A body whose size is not announced.
struct Parts(VecDeque<Bytes>);

impl Parts {
    fn new(size: usize) -> Self {
        Self(vec![b'x'; size].chunks(PART).map(Bytes::copy_from_slice).collect())
    }
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }
}

#[tokio::test]
async fn bodies_up_to_the_limit_are_forwarded() {
    let gateway = start(routes());
    for caller in gateway.callers() {
        for (path, size) in [("/limited", MAX), ("/limited", 0), ("/none", 0), ("/open", MAX + 1)] {
            for body in [vec![b'x'; size].into(), reqwest::Body::wrap(Parts::new(size))] {
                let response = caller.http.post(format!("{}{path}", caller.url)).body(body).send().await.unwrap();
                assert_eq!(response.status(), 200, "{path} {size}");
                let received = gateway.upstream.take();
                assert_eq!(received.iter().map(|request| request.body.len()).collect::<Vec<_>>(), [size], "{path}");
            }
        }
    }
}

#[tokio::test]
async fn announced_body_beyond_the_limit_is_refused_before_anything_is_forwarded() {
    let gateway = start(routes());
    for caller in gateway.callers() {
        for (path, size) in [("/limited", MAX + 1), ("/none", 1)] {
            let request = caller.http.post(format!("{}{path}", caller.url)).body(vec![b'x'; size]);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 413);
            let body: Value = response.json().await.unwrap();
            assert_eq!((&body["code"], &body["status"]), (&json!("body_too_large"), &json!(413)));
        }
    }
    assert_eq!(gateway.upstream.take_summaries(), [""; 0]);
    wait_for(async || {
        let mut sum = 0;
        // Those over HTTP/2 take another path.
        for path in ["fast", "proxy"] {
            let labels = format!(r#"denial="body_too_large",path="{path}",route="none",status="413""#);
            sum += gateway.keygate.count(&format!("keygate_gateway_requests_total{{{labels}}}")).await.unwrap_or(0);
        }
        if sum == 4 { Ok(()) } else { Err(format!("{sum} requests are counted")) }
    })
    .await;
}

/// Reads a response to the end of the connection.
fn rest(stream: &mut impl Read) -> String {
    let mut response = Vec::new();
    // The end may be a reset, because the client has sent more than was read.
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

#[test]
fn chunks_beyond_the_limit_end_the_request_and_the_connection() {
    let gateway = start(routes());
    for kind in ListenerKind::each() {
        let mut stream = gateway.listeners.connect(kind, Protocol::Http1);
        stream.write_all(b"POST /limited HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let chunk = [format!("{PART:x}\r\n").as_bytes(), &vec![b'x'; PART], b"\r\n"].concat();
        for _ in 0..=MAX / PART {
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
        let response = rest(&mut stream).to_ascii_lowercase();
        assert!(response.starts_with("http/1.1 413 "), "{response}");
        assert!(response.contains("connection: close\r\n") && response.contains("body_too_large"), "{response}");
    }
    assert_eq!(gateway.upstream.take_summaries(), [""; 0]);
}

#[test]
fn connection_goes_on_if_a_refused_body_is_short() {
    let gateway = start(routes());
    for kind in ListenerKind::each() {
        let mut stream = gateway.listeners.connect(kind, Protocol::Http1);
        let refused = "POST /none HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
        let last = "GET /open HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all([refused, refused, last].concat().as_bytes()).unwrap();
        let responses = rest(&mut stream);
        let statuses: Vec<_> =
            responses.match_indices("HTTP/1.1 ").map(|(at, _)| &responses[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["413", "413", "200"], "{responses}");
        assert_eq!(gateway.upstream.take_summaries(), ["GET /open"]);
    }
}

#[test]
fn client_that_waits_to_send_a_body_that_is_too_large_is_told_so() {
    let gateway = start(routes());
    let head =
        format!("POST /limited HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n", MAX + 1);
    let response = gateway.raw(&head);
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
    assert_eq!(gateway.upstream.take_summaries(), [""; 0]);
}

/// A request over HTTP/2 whose body is sent without announcing its size.
struct Upload {
    response: h2::client::ResponseFuture,
    sending: h2::SendStream<Bytes>,
}

impl Upload {
    async fn new(gateway: &Gateway, kind: ListenerKind, request: http::Request<()>) -> Self {
        let stream = gateway.listeners.connect_async(kind, Protocol::Http2).await;
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let (response, sending) = client.send_request(request, false).unwrap();
        Self { response, sending }
    }

    /// Sends a body as far as the server takes it. Returns the response with its body.
    async fn send(mut self, size: usize) -> (http::response::Parts, Vec<u8>) {
        let sending = tokio::spawn(async move { send(&mut self.sending, size).await });
        let (parts, body) = self.response.await.unwrap().into_parts();
        let body = receive(body).await.unwrap();
        sending.await.unwrap();
        (parts, body)
    }
}

async fn send(sending: &mut h2::SendStream<Bytes>, size: usize) {
    for part in Parts::new(size).0 {
        sending.reserve_capacity(part.len());
        while sending.capacity() < part.len() {
            if !matches!(std::future::poll_fn(|context| sending.poll_capacity(context)).await, Some(Ok(_))) {
                return;
            }
        }
        if sending.send_data(part, false).is_err() {
            return;
        }
    }
    let _ = sending.send_data(Bytes::new(), true);
}

async fn receive(mut body: h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        received.extend(data);
    }
    Ok(received)
}

fn post(path: &str, content_type: &str) -> http::Request<()> {
    http::Request::post(format!("http://h{path}")).header("content-type", content_type).body(()).unwrap()
}

#[tokio::test]
async fn http2_body_beyond_the_limit_ends_the_request() {
    let gateway = start(routes());
    for kind in ListenerKind::each() {
        let (parts, body) = Upload::new(&gateway, kind, post("/limited", "text/plain")).await.send(MAX + 1).await;
        assert_eq!(parts.status, 413);
        assert!(String::from_utf8(body).unwrap().contains("body_too_large"));
        let (parts, body) = Upload::new(&gateway, kind, post("/limited", "application/grpc")).await.send(MAX + 1).await;
        assert_eq!((parts.status.as_u16(), &parts.headers["grpc-status"], body.len()), (200, &"8".parse().unwrap(), 0));
        assert_eq!(gateway.upstream.take_summaries(), [""; 0]);
        let (parts, _) = Upload::new(&gateway, kind, post("/limited", "text/plain")).await.send(MAX).await;
        assert_eq!((parts.status.as_u16(), gateway.upstream.take().remove(0).body.len()), (200, MAX));
    }
}

/// The upstream's connection is used again, so that it would read whatever follows the body as the next request.
#[tokio::test]
async fn http2_body_that_ends_with_an_empty_frame_ends_once_at_the_upstream() {
    let gateway = start(routes());
    for kind in ListenerKind::each() {
        for size in [0, 1, PART] {
            let (parts, body) = Upload::new(&gateway, kind, post("/open", "text/plain")).await.send(size).await;
            assert_eq!((parts.status.as_u16(), &*body), (200, &b"ok"[..]));
            let received = gateway.upstream.take();
            assert_eq!(received.iter().map(|request| request.body.len()).collect::<Vec<_>>(), [size]);
        }
    }
}

/// An upstream that begins its response before it has the body, and then reads to the end of each connection.
fn early_upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    url
}

#[tokio::test]
async fn response_that_has_begun_is_broken_off() {
    let routes = json!([{"name": "early", "upstream": "early", "max_body": MAX}]);
    let gateway = start_with(routes, &json!({"upstreams": {"early": {"endpoints": [early_upstream()]}}}));
    for kind in ListenerKind::each() {
        let mut stream = gateway.listeners.connect(kind, Protocol::Http1);
        stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").unwrap();
        let mut begun = Vec::new();
        while !begun.ends_with(b"abc\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            begun.extend(byte);
        }
        assert!(begun.starts_with(b"HTTP/1.1 200 OK\r\n"));
        let chunk = [format!("{MAX:x}\r\n").as_bytes(), &vec![b'x'; MAX], b"\r\n"].concat();
        let _ = stream.write_all(&chunk);
        assert_eq!(rest(&mut stream), "", "no end of the response");
        let mut upload = Upload::new(&gateway, kind, post("/", "text/plain")).await;
        upload.sending.send_data(Bytes::from_static(b"x"), false).unwrap();
        let (parts, body) = upload.response.await.unwrap().into_parts();
        assert_eq!(parts.status, 200);
        send(&mut upload.sending, MAX).await;
        let error = receive(body).await.unwrap_err();
        assert!(error.is_reset(), "{error}");
    }
}
