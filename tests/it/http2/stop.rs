//! The stop on HTTP/2 connections.

use std::io::{Read, Write};

use keygate_test_servers::{WAIT_TIMEOUT, free_port};
use serde_json::json;

use super::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, SETTINGS, connect, frame, request};
use crate::http2::Gateway;
use crate::support::client_stream::ClientStream;
use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners};
use crate::support::upstream::Upstream;

const ACK: u8 = 0x1;

/// Reads frames until `is_last` says so or the connection ends: kind, stream, payload. PING frames are answered.
fn receive(stream: &mut ClientStream, is_last: impl Fn(u8) -> bool) -> Vec<(u8, u32, Vec<u8>)> {
    let mut received = Vec::new();
    let mut header = [0; 9];
    while stream.read_exact(&mut header).is_ok() {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let mut payload = vec![0; usize::try_from(number(&header[..3])).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        if header[3] == PING && header[4] & ACK == 0 {
            stream.write_all(&frame(PING, ACK, 0, &payload)).unwrap();
        }
        received.push((header[3], number(&header[5..]), payload));
        if is_last(header[3]) {
            break;
        }
    }
    received
}

fn get(id: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, id, &request("GET", path))
}

/// The last stream and the error code of a GOAWAY frame.
fn goaway(payload: &[u8]) -> (u32, u32) {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    (number(&payload[..4]), number(&payload[4..8]))
}

#[tokio::test]
async fn stop_sends_goaway_and_streams_finish() {
    let upstream = Upstream::start();
    let settings = json!({
        "shutdown_grace": "60s",
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let listeners = Listeners::new();
    let patient = json!({"serve": {"shutdown_idle_timeout": "60s"}});
    let mut gateway = Gateway { keygate: listeners.serve_with(&settings, &json!({}), &patient), listeners };
    let mut connections: Vec<_> = ListenerKind::each().map(|kind| connect(&gateway, kind)).collect();
    for stream in &mut connections {
        stream.write_all(&get(1, "/held")).unwrap();
    }
    upstream.holds(connections.len()).await;
    gateway.keygate.process.signal("TERM");
    for stream in &mut connections {
        // First without a last stream: what the client has sent before it receives the frame is served.
        let received = receive(stream, |kind| kind == GOAWAY);
        assert_eq!(goaway(&received.last().unwrap().2), (0x7fff_ffff, 0));
        stream.write_all(&get(3, "/late/held")).unwrap();
    }
    upstream.holds(2 * connections.len()).await;
    upstream.release();
    for stream in &mut connections {
        let received = receive(stream, |_| false);
        let last: Vec<_> = received.iter().filter(|(kind, ..)| *kind == GOAWAY).collect();
        assert_eq!(last.iter().map(|(.., payload)| goaway(payload)).collect::<Vec<_>>(), [(3, 0)]);
        for id in [1, 3] {
            let is_body = |(kind, stream, _): &&(u8, u32, Vec<u8>)| (*kind, *stream) == (DATA, id);
            let body: Vec<u8> = received.iter().filter(is_body).flat_map(|(.., payload)| payload.clone()).collect();
            assert!(body.ends_with(b"body=0"), "{received:?}");
        }
    }
    assert!(gateway.keygate.process.wait(WAIT_TIMEOUT).success());
}

#[tokio::test]
async fn stop_sends_goaway_on_idle_connections_of_external_authorization() {
    let port = free_port();
    let settings = json!({
        "serve": {"shutdown_idle_timeout": "60s"},
        "external_auth": {"address": format!("127.0.0.1:{port}")}
    });
    let gateway = json!({"enabled": false, "routes": [{"name": "all", "auth": "none"}]});
    let mut keygate = Keygate::serve(&gateway, &settings);
    let mut stream = ClientStream::tcp(port);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(1, "/a")].concat()).unwrap();
    receive(&mut stream, |kind| kind == HEADERS);
    keygate.process.signal("TERM");
    let received = receive(&mut stream, |_| false);
    let first = received.iter().find(|(kind, ..)| *kind == GOAWAY).unwrap();
    assert_eq!(goaway(&first.2), (0x7fff_ffff, 0));
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}
