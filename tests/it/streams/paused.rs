//! Silence within a response that is longer than the time for its first byte, with every protocol of client and upstream.

use std::future::{pending, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::any;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::StreamExt;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tower::ServiceExt;

use super::stream_upstream::{PAUSE, StreamUpstream};
use crate::support::listeners::{ListenerKind, Listeners, Protocol};

const EVENTS: &str = "data: 1\n\ndata: 2\n\n";

/// An upstream in clear text with HTTP/2, whose responses are those of [`StreamUpstream`].
async fn start_http2() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/h2/pause", any(|| ready(pause("text/plain"))))
        .route("/h2/paused-events", any(|| ready(pause("text/event-stream"))))
        .route("/h2/silent", any(pending::<String>));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let router = router.clone();
            tokio::spawn(async move {
                let serve = hyper::service::service_fn(move |request| router.clone().oneshot(request));
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve).await;
            });
        }
    });
    url
}

fn pause(kind: &'static str) -> Response {
    let (parts, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        // An error means that the gateway has ended the request.
        let _ = parts.send("data: 1\n\n").await;
        tokio::time::sleep(PAUSE).await;
        let _ = parts.send("data: 2\n\n").await;
    });
    let body = ReceiverStream::new(receiver).map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part.as_bytes())));
    Response::builder().header("content-type", kind).body(Body::from_stream(body)).unwrap()
}

/// Routes `/h1` and `/h2`, without credentials. The first byte may take half as long as the pauses.
fn gateway(http1: &str, http2: &str) -> Value {
    let first_byte = "1500ms";
    let routes: Vec<_> = ["h1", "h2"]
        .into_iter()
        .flat_map(|name| {
            // Event streams have a time of their own.
            let short = json!({"read": first_byte});
            let events = format!("/{name}/paused-events");
            [
                json!({"name": name, "path_prefix": format!("/{name}"), "upstream": name, "auth": "none"}),
                json!({"name": events, "path_prefix": events, "upstream": name, "auth": "none", "timeouts": short}),
            ]
        })
        .collect();
    let timeouts = json!({"first_byte_timeout": first_byte, "read_timeout": "30s", "stream_idle_timeout": "30s"});
    let upstream = |url: &str, protocol: &str| {
        let mut upstream = json!({"endpoints": [url], "protocol": protocol});
        crate::support::keygate::merge(&mut upstream, &timeouts);
        upstream
    };
    json!({"routes": routes, "upstreams": {"h1": upstream(http1, "http1"), "h2": upstream(http2, "http2")}})
}

#[tokio::test(flavor = "multi_thread")]
async fn time_for_the_first_byte_does_not_limit_silence_within_the_response() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let _keygate = listeners.serve(&gateway(&upstream.url, &start_http2().await), &json!({}));
    let mut requests = JoinSet::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for path in ["/h1/pause", "/h1/paused-events", "/h2/pause", "/h2/paused-events"] {
            // A client that accepts any type gets an event stream as well.
            let request = listeners
                .client(ListenerKind::Tls, protocol)
                .get(format!("{}{path}", listeners.url(ListenerKind::Tls)));
            requests.spawn(async move {
                let begun = Instant::now();
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 200, "{protocol:?} {path}");
                let body = response.text().await;
                assert_eq!(body.as_deref().ok(), Some(EVENTS), "{protocol:?} {path}: {body:?}");
                assert!(begun.elapsed() >= PAUSE, "{protocol:?} {path}");
            });
        }
    }
    while let Some(checked) = requests.join_next().await {
        checked.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_of_an_http2_upstream_that_does_not_begin_is_504_and_the_connection_goes_on() {
    let listeners = Listeners::new();
    let _keygate = listeners.serve(&gateway("http://127.0.0.1:1", &start_http2().await), &json!({}));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = listeners.client(ListenerKind::Tls, protocol);
        let url = |path: &str| format!("{}{path}", listeners.url(ListenerKind::Tls));
        let begun = Instant::now();
        let late = client.post(url("/h2/silent")).body("some").send().await.unwrap();
        assert_eq!(late.status(), 504, "{protocol:?}");
        let problem: Value = late.json().await.unwrap();
        assert_eq!(problem["code"], "upstream_timeout");
        assert!(begun.elapsed() >= Duration::from_millis(1_400), "{protocol:?}: {:?}", begun.elapsed());
        let next = client.get(url("/h2/pause")).send().await.unwrap();
        assert_eq!(next.text().await.unwrap(), EVENTS, "{protocol:?}");
    }
}
