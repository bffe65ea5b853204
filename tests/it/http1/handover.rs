//! Requests pass through pingora one by one, and the connection comes back after each.

use std::io::{Read, Write};

use serde_json::json;

use super::{Gateway, read_to_end, read_until, start, statuses};
use crate::support::listeners::ListenerKind;
use crate::support::raw_upstream::RawUpstream;
use crate::support::wait::wait_for_count;

#[tokio::test]
async fn pipelined_requests_after_a_chunked_body_are_answered_in_order() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let request = b"POST /chunked HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n\
            GET /204 HTTP/1.1\r\nHost: h\r\n\r\nPUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhiGET /close HTTP/1.1\r\nHost: h\r\n\
            Connection: close\r\n\r\n";
        for size in [1, 7, 4096] {
            let mut stream = gateway.connect(kind);
            for piece in request.chunks(size) {
                stream.write_all(piece).unwrap();
            }
            assert_eq!(statuses(&read_to_end(&mut stream)), [200, 204, 200, 200], "pieces of {size} bytes");
            let received = upstream.take_summaries();
            assert_eq!(received, ["POST /chunked abc", "GET /204", "PUT /a hi", "GET /close"]);
        }
    }
}

#[tokio::test]
async fn many_pipelined_requests_are_all_answered() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let mut request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200);
        request.push_str("GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(statuses(&gateway.send(kind, request.as_bytes())), [200; 201]);
        assert_eq!(upstream.take().len(), 201);
    }
}

#[tokio::test]
async fn upgraded_connection_is_a_tunnel_in_both_directions() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let mut stream = gateway.connect(kind);
        let request = "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
        stream.write_all(request.as_bytes()).unwrap();
        let received = read_until(&mut stream, "hellofirst");
        assert!(received.starts_with("HTTP/1.1 101 "), "{received}");
        upstream.take();
        stream.write_all(b"GET /keys HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(read_until(&mut stream, "\r\n\r\n"), "GET /keys HTTP/1.1\r\n\r\n");
        stream.close_sending();
        assert_eq!(read_to_end(&mut stream), b"");
        assert_eq!(upstream.take(), []);
    }
}

#[tokio::test]
async fn only_websocket_is_an_upgrade() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        for protocol in ["h2c", "foo", "websocket, h2c", "TLS/1.0"] {
            let request = format!(
                "GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade, http2-settings, close\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
            );
            assert_eq!(statuses(&gateway.send(kind, request.as_bytes())), [200], "{protocol}");
            let received = upstream.take().pop().unwrap();
            assert!(
                !received.names().iter().any(|name| ["upgrade", "http2-settings"].contains(&name.as_str())),
                "{received:?}"
            );
        }
        // An upstream that switches without being asked.
        let request = b"GET /unasked HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(statuses(&gateway.send(kind, request)), [502]);
    }
}

#[tokio::test]
async fn upstream_error_is_answered_and_ends_the_connection() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let request =
            b"POST /drop HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhiGET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(statuses(&gateway.send(kind, request)), [502]);
        let received = upstream.take_summaries();
        assert_eq!(received, ["POST /drop hi"], "the next request is not forwarded, and a POST is not repeated");
    }
}

#[tokio::test]
async fn response_with_a_malformed_chunk_ends_without_an_end() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let response = gateway.send(kind, b"GET /malformed-chunk HTTP/1.1\r\nHost: h\r\n\r\n");
        let text = String::from_utf8(response).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(!text.contains("abc") && !text.ends_with("0\r\n\r\n"), "{text}");
    }
}

#[tokio::test]
async fn early_answer_to_an_upload_is_passed_on_and_ends_the_connection() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let mut stream = gateway.connect(kind);
        stream.write_all(b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nstart").unwrap();
        // The upload is never finished.
        let response = read_to_end(&mut stream);
        assert_eq!(statuses(&response), [413]);
        let text = String::from_utf8(response).unwrap();
        assert!(text.to_ascii_lowercase().contains("connection: close") && text.ends_with("large"), "{text}");
    }
}

#[tokio::test]
async fn exchange_of_a_client_that_is_gone_is_ended() {
    let upstream = crate::support::upstream::Upstream::start();
    let gateway = Gateway::start(&upstream.url, &json!({}));
    let in_flight = async |count: usize| {
        wait_for_count(&gateway.keygate, "keygate_gateway_requests_in_flight", count as u64).await;
    };
    let connections: Vec<_> = ListenerKind::each()
        .map(|kind| {
            let mut stream = gateway.connect(kind);
            stream.write_all(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            stream
        })
        .collect();
    upstream.holds(connections.len()).await;
    in_flight(connections.len()).await;
    drop(connections);
    in_flight(0).await;
}

#[tokio::test]
async fn half_closed_client_is_served() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let mut stream = gateway.connect(kind);
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /chunked HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        stream.close_sending();
        assert_eq!(statuses(&read_to_end(&mut stream)), [200, 200]);
    }
}

#[tokio::test]
async fn client_of_http_1_0_gets_no_chunks() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let response = gateway.send(kind, b"GET /chunked HTTP/1.0\r\n\r\n");
        let text = String::from_utf8(response).unwrap();
        assert!(text.starts_with("HTTP/1.") && text.ends_with("\r\n\r\nabcdefg"), "{text}");
        assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
        let response = gateway.send(kind, b"GET /close HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(response.ends_with(b"\r\n\r\nuntil the end"));
    }
}

#[tokio::test]
async fn interim_responses_are_passed_on() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let mut stream = gateway.connect(kind);
        stream
            .write_all(b"POST /continue HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            .unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 100 "));
        stream.write_all(b"hi").unwrap();
        let head = read_until(&mut stream, "\r\n\r\nok").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && !head.contains("connection: close"), "{head}");
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(statuses(&read_to_end(&mut stream)), [200]);
        let response = gateway.send(kind, b"GET /hints HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert!(String::from_utf8(response).unwrap().starts_with("HTTP/1.1 103 "));
        assert_eq!(upstream.take().pop().unwrap().summary(), "GET /hints");
    }
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let mut stream = gateway.connect(kind);
        let body = vec![b'y'; 3_000_000];
        let mut chunks = Vec::new();
        for chunk in body.chunks(70_000) {
            chunks.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
        }
        chunks.extend(b"0\r\n\r\n");
        for _ in 0..2 {
            stream.write_all(b"POST /big/5000000 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            stream.write_all(&chunks).unwrap();
            read_until(&mut stream, "\r\n\r\n");
            let mut response = vec![0; 5_000_000];
            stream.read_exact(&mut response).unwrap();
            assert!(response.iter().all(|byte| *byte == b'x'));
            assert_eq!(upstream.take().pop().unwrap().body, body);
        }
    }
}

#[tokio::test]
async fn only_idempotent_requests_are_repeated_when_a_pooled_connection_was_closed() {
    let upstream = RawUpstream::start();
    let endpoint = upstream.url.trim_start_matches("http://");
    let idle = format!(r#"keygate_upstream_connections{{endpoint="{endpoint}",state="idle",upstream="api"}}"#);
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        // The upstream answers one request for each connection, and closes the connection at the second one.
        let status = |method: &str, body: &str| {
            let length = body.len();
            let head = format!(
                "{method} /once HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            statuses(&gateway.send(kind, head.as_bytes()))[0]
        };
        for (method, body, expected) in [
            ("GET", "", 200),
            ("HEAD", "", 200),
            ("GET", "x", 200),
            ("PUT", "x", 200),
            ("DELETE", "", 200),
            ("POST", "x", 502),
            ("PATCH", "x", 502),
        ] {
            assert_eq!(status("GET", ""), 200);
            wait_for_count(&gateway.keygate, &idle, 1).await;
            upstream.take();
            assert_eq!(status(method, body), expected, "{method}");
            assert_eq!(upstream.take().len(), if expected == 200 { 2 } else { 1 }, "{method}");
        }
    }
}
