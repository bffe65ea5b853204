//! The front door of HTTP/1.1, byte by byte: which requests are refused, what the upstream receives, how connections go on and end.

mod cases;
mod chaos;
mod handover;
mod limits;
mod paths;
mod readers;

use std::io::{ErrorKind, Read, Write};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::client_stream::ClientStream;
use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::raw_upstream::RawUpstream;

/// A gateway with each kind of listener, which forwards everything without a credential except `/keys`.
struct Gateway {
    keygate: Keygate,
    listeners: Listeners,
}

impl Gateway {
    fn start(upstream: &str, limits: &Value) -> Self {
        let gateway = json!({
            "routes": [{"name": "all", "upstream": "api", "auth": "none"}, {"name": "keys", "path_prefix": "/keys", "upstream": "api"}],
            "upstreams": {"api": {"endpoints": [upstream], "retries": {"budget_percent": 100}}}
        });
        let listeners = Listeners::new();
        Self { keygate: listeners.serve(&gateway, &json!({"limits": limits})), listeners }
    }

    fn connect(&self, kind: ListenerKind) -> ClientStream {
        self.listeners.connect(kind, Protocol::Http1)
    }

    /// Sends bytes and reads until the gateway closes the connection. An error of the connection ends the reading, too.
    fn send(&self, kind: ListenerKind, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect(kind);
        // The gateway may close the connection before it has read everything.
        let _ = stream.write_all(request);
        read_to_end(&mut stream)
    }

    /// The sum of the counters of requests with `has` in their labels.
    async fn requests(&self, has: &str) -> u64 {
        let url = format!("{}/metrics", self.keygate.metrics);
        let text = self.keygate.http.get(url).send().await.unwrap().text().await.unwrap();
        let counters = text.lines().filter_map(|line| line.strip_prefix("keygate_gateway_requests_total{"));
        let counters = counters.filter(|line| line.contains(has)).filter_map(|line| line.rsplit(' ').next());
        counters.map(|count| count.parse::<u64>().unwrap()).sum()
    }
}

/// A gateway that forwards everything to an upstream, with or without the fast path.
fn serve_path(fast_path: bool, upstream: &str) -> Keygate {
    let gateway = json!({
        "address": "127.0.0.1:0",
        "fast_path": fast_path,
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream], "retries": {"budget_percent": 100}, "ejection": {"max_percent": 0}}}
    });
    Keygate::serve(&gateway, &json!({}))
}

fn start(upstream: &RawUpstream, limits: &Value) -> Gateway {
    Gateway::start(&upstream.url, limits)
}

fn read_to_end(stream: &mut ClientStream) -> Vec<u8> {
    let mut received = Vec::new();
    let mut bytes = [0; 8192];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return received,
            Ok(length) => received.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the connection stays open after {received:?}")
            }
            Err(_) => return received,
        }
    }
}

/// Reads until the text ends with `end`.
fn read_until(stream: &mut ClientStream, end: &str) -> String {
    let mut received = Vec::new();
    let mut byte = [0];
    while !received.ends_with(end.as_bytes()) {
        let read = stream.read(&mut byte).unwrap();
        assert!(read > 0, "the connection was closed after {:?}", String::from_utf8_lossy(&received));
        received.push(byte[0]);
    }
    String::from_utf8(received).unwrap()
}

/// Generates this number of cases, always the same ones; with `GENERATED_CASES`, that number of new ones.
fn generated_cases(count: u32) -> TestRunner {
    match std::env::var("GENERATED_CASES") {
        Ok(count) => TestRunner::new(config(count.parse().unwrap())),
        Err(_) => TestRunner::new_with_rng(config(count), TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    }
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// The statuses of the responses in the bytes of a connection, without interim ones. Bodies are skipped by their framing.
fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no response head in {:?}", String::from_utf8_lossy(bytes))) + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        bytes = &bytes[end..];
        if status < 200 && status != 101 {
            continue;
        }
        statuses.push(status);
        let has_body = !matches!(status, 101 | 204 | 304);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        match length {
            Some(length) if has_body => bytes = &bytes[length.parse::<usize>().unwrap().min(bytes.len())..],
            None if head.contains("transfer-encoding: chunked") => {
                let end = bytes.windows(5).position(|window| window == b"0\r\n\r\n").unwrap() + 5;
                bytes = &bytes[end..];
            }
            None if has_body => bytes = &[],
            _ => {}
        }
    }
    statuses
}
