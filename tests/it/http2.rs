//! HTTP/2, by ALPN and with prior knowledge: requests, limits, floods of frames, real clients.

mod stop;

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{StatusCode, Version};
use serde_json::{Value, json};

use crate::support::client_stream::ClientStream;
use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::raw_upstream::RawUpstream;
use crate::support::wait::wait_for;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A gateway with each kind of listener, which forwards everything without a credential except `/keys`.
struct Gateway {
    keygate: Keygate,
    listeners: Listeners,
}

fn start(upstream: &RawUpstream, limits: &Value) -> Gateway {
    let gateway = json!({
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}, {"name": "keys", "path_prefix": "/keys", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let listeners = Listeners::new();
    Gateway { keygate: listeners.serve(&gateway, &json!({"limits": limits})), listeners }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal field without indexing (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = Vec::new();
        let length = text.len();
        if length < 127 {
            bytes.push(u8::try_from(length).unwrap());
        } else {
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
        bytes.extend(text.bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

fn request(method: &str, path: &str) -> Vec<u8> {
    [field(":method", method), field(":scheme", "http"), field(":path", path), field(":authority", "h")].concat()
}

/// A connection whose SETTINGS were sent.
fn connect(gateway: &Gateway, kind: ListenerKind) -> ClientStream {
    let mut stream = gateway.listeners.connect(kind, Protocol::Http2);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

/// Reads frames until the connection ends: kind, stream, payload.
fn frames(stream: &mut ClientStream) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        let mut header = [0; 9];
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the connection stays open after {frames:?}")
            }
            Err(_) => return frames,
        }
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            return frames;
        }
        frames.push((header[3], u32::from_be_bytes(header[5..9].try_into().unwrap()), payload));
    }
}

/// The error codes of GOAWAY frames.
fn goaways(frames: &[(u8, u32, Vec<u8>)]) -> Vec<u32> {
    let goaways = frames.iter().filter(|(kind, ..)| *kind == GOAWAY);
    goaways.map(|(.., payload)| u32::from_be_bytes(payload[4..8].try_into().unwrap())).collect()
}

#[tokio::test]
async fn requests_are_authorized_and_forwarded() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    let (_, key) = gateway.keygate.issue(json!({})).await;
    for kind in ListenerKind::BY_URL {
        let (http, url) = (gateway.listeners.client(kind, Protocol::Http2), gateway.listeners.url(kind));
        let get = |path: &str| http.get(format!("{url}{path}"));
        let response = get("/a").send().await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(get("/keys").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!(get("/keys").bearer_auth(&key).send().await.unwrap().status(), StatusCode::OK);
        let response = http.post(format!("{url}/b")).body("x".repeat(200_000)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let received = upstream.take();
        assert_eq!(received.last().unwrap().body.len(), 200_000);
        let refusal = get("/keys").header("content-type", "application/grpc").send().await.unwrap();
        assert_eq!((refusal.status(), refusal.headers()["grpc-status"].as_bytes()), (StatusCode::OK, &b"16"[..]));
        let many = (0..300).map(|index| tokio::spawn(get(&format!("/many/{index}")).send()));
        for response in many.collect::<Vec<_>>() {
            assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn methods_and_heads_are_limited_as_in_http_1() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"target_bytes": 1000, "head_fields": 20}));
    for kind in ListenerKind::BY_URL {
        let http = gateway.listeners.client(kind, Protocol::Http2);
        let url = |path: &str| format!("{}{path}", gateway.listeners.url(kind));
        let trace = http.request(reqwest::Method::TRACE, url("/a")).send().await.unwrap();
        assert_eq!(
            (trace.status(), trace.headers()["content-type"].as_bytes()),
            (StatusCode::METHOD_NOT_ALLOWED, &b"application/problem+json"[..])
        );
        assert_eq!(
            http.get(url(&format!("/{}", "a".repeat(1000)))).send().await.unwrap().status(),
            StatusCode::URI_TOO_LONG
        );
        let mut many = http.get(url("/a"));
        for index in 0..30 {
            many = many.header(format!("x-{index}"), "y");
        }
        assert_eq!(many.send().await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        let large = http.get(url("/a")).header("x-large", "y".repeat(40_000)).send().await;
        assert!(large.is_err() || large.unwrap().status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(upstream.take(), []);
    }
}

#[tokio::test]
async fn rejections_keep_the_connection() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    for kind in ListenerKind::each() {
        let mut stream = connect(&gateway, kind);
        for (id, path) in [(1, "/keys"), (3, "/keys/a"), (5, "/keys"), (7, "/a")] {
            stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, &request("GET", path))).unwrap();
        }
        stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).unwrap();
        let received = frames(&mut stream);
        let heads = received.iter().filter(|(kind, ..)| *kind == HEADERS).count();
        let resets = received.iter().filter(|(kind, ..)| *kind == RST_STREAM).count();
        assert_eq!((heads, resets), (4, 0), "{received:?}");
        assert_eq!(upstream.take_summaries(), ["GET /a"]);
    }
}

/// Frames that are cheap to send, and the name of the flood.
fn floods() -> [(&'static str, Vec<u8>); 6] {
    let get = request("GET", "/a");
    let resets: Vec<u8> = (0..3_000)
        .flat_map(|index| {
            let stream = index * 2 + 1;
            [frame(HEADERS, END_STREAM | END_HEADERS, stream, &get), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
                .concat()
        })
        .collect();
    let continuations = [frame(HEADERS, END_STREAM, 1, &get), frame(CONTINUATION, 0, 1, b"").repeat(5_000)].concat();
    let data = [frame(HEADERS, END_HEADERS, 1, &request("POST", "/b")), frame(DATA, 0, 1, b"").repeat(5_000)].concat();
    [
        ("reset", resets),
        ("continuation", continuations),
        ("data", data),
        ("settings", frame(SETTINGS, 0, 0, &[]).repeat(5_000)),
        ("ping", frame(PING, 0, 0, &[0; 8]).repeat(5_000)),
        ("unknown", frame(0xfa, 0, 0, b"x").repeat(5_000)),
    ]
}

#[tokio::test]
async fn floods_of_frames_end_the_connection() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    ListenerKind::each_at_once(|kind| {
        for (name, flood) in floods() {
            let mut stream = connect(&gateway, kind);
            // The gateway may close the connection before it has read everything.
            let _ = stream.write_all(&flood);
            let codes = goaways(&frames(&mut stream));
            assert!(
                codes.is_empty() || codes.contains(&ENHANCE_YOUR_CALM) || name == "continuation",
                "{name}: {codes:?}"
            );
        }
    });
    // Other connections are served.
    for kind in ListenerKind::BY_URL {
        let http = gateway.listeners.client(kind, Protocol::Http2);
        let response = http.get(format!("{}/a", gateway.listeners.url(kind))).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn silent_and_idle_connections_are_closed() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"head_timeout": "1s", "idle_timeout": "1s", "body_idle_timeout": "1s"}));
    ListenerKind::each_at_once(|kind| {
        let started = Instant::now();
        frames(&mut connect(&gateway, kind));
        let mut idle = connect(&gateway, kind);
        idle.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", "/a"))).unwrap();
        let received = frames(&mut idle);
        assert!(received.iter().any(|(kind, stream, _)| (*kind, *stream) == (DATA, 1)), "{received:?}");
        assert_eq!(goaways(&received).first(), Some(&0), "{received:?}");
        assert!(started.elapsed() >= Duration::from_millis(1_800));
        // A preface that is not finished.
        let mut partial = gateway.listeners.connect(kind, Protocol::Http2);
        partial.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = partial.read_to_end(&mut answer);
        // By ALPN it is known that the client reads frames.
        let is_expected = if kind.has_tls() {
            !answer.starts_with(b"HTTP/1.1")
        } else {
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 ")
        };
        assert!(is_expected, "{}", String::from_utf8_lossy(&answer));
        // A connection on which nothing is sent.
        let mut silent = gateway.listeners.connect(kind, Protocol::Http2);
        let _ = silent.read_to_end(&mut answer);
        assert!(started.elapsed() < Duration::from_secs(30));
    });
}

#[tokio::test]
async fn body_that_does_not_arrive_ends_its_request_only() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"body_idle_timeout": "1s"}));
    let mut connections: Vec<_> = ListenerKind::each().map(|kind| connect(&gateway, kind)).collect();
    let count = connections.len();
    for stream in &mut connections {
        let head = [request("POST", "/b"), field("content-length", "10")].concat();
        stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).unwrap();
        stream.write_all(&frame(DATA, 0, 1, b"start")).unwrap();
    }
    let keygate = &gateway.keygate;
    wait_for(async || {
        let text = keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap();
        let counters = text.lines().filter_map(|line| line.strip_prefix("keygate_gateway_requests_total{"));
        let counts = counters.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
        if counts.sum::<usize>() == count { Ok(()) } else { Err(format!("the requests go on: {text}")) }
    })
    .await;
    for (mut stream, kind) in connections.into_iter().zip(ListenerKind::each()) {
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &request("GET", "/a"))).unwrap();
        stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).unwrap();
        let received = frames(&mut stream);
        assert!(received.iter().any(|(kind, stream, _)| (*kind, *stream) == (HEADERS, 3)), "{kind:?}: {received:?}");
        assert!(
            received.iter().any(|(kind, stream, _)| *stream == 1 && [HEADERS, RST_STREAM].contains(kind)),
            "{kind:?}: {received:?}"
        );
        assert_eq!(upstream.take_summaries(), ["GET /a"]);
    }
}

/// Runs a client if it is installed. Returns what it prints.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            eprintln!("SKIPPED: {program} cannot be started ({error}); deploy/ci/ensure.sh test installs it");
            None
        }
    }
}

#[tokio::test]
async fn real_clients_are_served() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({}));
    let authority = gateway.listeners.authority().file.to_str().unwrap();
    for kind in ListenerKind::BY_URL {
        let url = format!("{}/a", gateway.listeners.url(kind));
        let http2 = if kind.has_tls() { "--http2" } else { "--http2-prior-knowledge" };
        if let Some(text) = run("curl", &["-si", "--cacert", authority, http2, &url]) {
            assert!(text.starts_with("HTTP/2 200") && text.ends_with("ok"), "{text}");
        }
        if let Some(text) = run("nghttp", &["-v", &url]) {
            assert!(text.contains(":status: 200"), "{text}");
        }
        if let Some(text) = run("h2load", &["-n", "500", "-c", "5", "-m", "20", &url]) {
            assert!(text.contains("500 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
        }
    }
    let url = format!("{}/a", gateway.listeners.url(ListenerKind::Tcp));
    if let Some(text) = run("curl", &["-si", "--http2", &url]) {
        assert!(text.starts_with("HTTP/1.1 200"), "Upgrade: h2c is ignored: {text}");
    }
}
