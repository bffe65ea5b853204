//! Large uploads.

use std::io::Write;

use reqwest::StatusCode;
use serde_json::json;

use super::{raw, start_everywhere};
use crate::support::listeners::{ListenerKind, Protocol};
use crate::support::upstream::Upstream;

/// The most memory that a process has had, in KiB.
fn most_memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn large_upload_is_streamed_in_bounded_memory() {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 512;
    let upstream = Upstream::start();
    let (keygate, listeners) = start_everywhere(&upstream);
    let (_, key) = keygate.issue(json!({})).await;
    let chunk = vec![b'x'; CHUNK];
    for kind in ListenerKind::each() {
        let mut stream = listeners.connect(kind, Protocol::Http1);
        let get = format!("GET /plain HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\n\r\n");
        assert_eq!(raw(&mut stream, &get).0, 200);
        let before = most_memory(keygate.process.id());
        let length = CHUNK * CHUNKS;
        let head = format!("POST /plain HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..CHUNKS {
            stream.write_all(&chunk).unwrap();
        }
        let text = String::from_utf8(raw(&mut stream, "").2).unwrap();
        assert!(text.ends_with(&format!("body={length}")), "{text}");
        // The kernel counts per thread, so that even a peak can appear to shrink a little.
        let growth = most_memory(keygate.process.id()).saturating_sub(before);
        assert!(growth < 32 * 1024, "memory grew by {growth} KiB over an upload of {CHUNKS} MiB");
    }
}

#[tokio::test]
async fn large_upload_by_http_2_is_streamed_in_bounded_memory() {
    const LENGTH: usize = 1 << 28;
    let upstream = Upstream::start();
    let (keygate, listeners) = start_everywhere(&upstream);
    let (_, key) = keygate.issue(json!({})).await;
    for kind in ListenerKind::BY_URL {
        let (http, url) = (listeners.client(kind, Protocol::Http2), format!("{}/plain", listeners.url(kind)));
        assert_eq!(http.get(&url).bearer_auth(&key).send().await.unwrap().status(), StatusCode::OK);
        let before = most_memory(keygate.process.id());
        let response = http.post(&url).bearer_auth(&key).body(vec![b'x'; LENGTH]).send().await.unwrap();
        let text = response.text().await.unwrap();
        assert!(text.ends_with(&format!("body={LENGTH}")), "{text}");
        let growth = most_memory(keygate.process.id()).saturating_sub(before);
        assert!(growth < 32 * 1024, "{kind:?}: memory grew by {growth} KiB over an upload of {LENGTH} bytes");
    }
}
