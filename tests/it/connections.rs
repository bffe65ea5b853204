//! What a stranger can take of the process with connections alone: memory, descriptors, time.

mod admin;
mod auth_failures;
mod beginnings;
mod caps;
mod memory;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use keygate_test_servers::{WAIT_TIMEOUT, free_port};
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, merge};
use crate::support::wait::wait_for;

/// A gateway with one listener. `limits` are those of the listener, `gateway` has more settings.
fn start(upstream: &str, limits: &Value, gateway: &Value) -> Keygate {
    start_with(upstream, limits, gateway, None)
}

/// The same, with soft and hard limit of open files.
fn start_with(upstream: &str, limits: &Value, gateway: &Value, open_files: Option<(u32, u32)>) -> Keygate {
    let address = format!("127.0.0.1:{}", free_port());
    let mut settings = json!({
        "listeners": [{"address": address, "limits": limits}],
        "routes": [{"name": "keys", "upstream": "api"}, {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream]}},
    });
    merge(&mut settings, gateway);
    let mut keygate = Keygate::serve_within(&settings, open_files);
    keygate.gateway = format!("http://{address}");
    keygate
}

/// The address of a URL without a path.
fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

/// Connects; later reads fail after [`WAIT_TIMEOUT`].
fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(address(url)).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream
}

/// The same, from an address of this machine.
async fn connect_from(from: IpAddr, to: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let stream = socket.connect(address(to)).await.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream
}

/// Sends bytes and reads the head of a response.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).unwrap();
    read_head(stream)
}

/// Reads the head of a response and the body of its length.
fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut byte).unwrap_or_default();
        assert!(read > 0, "the connection was closed after {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = crate::support::upstream::header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).unwrap();
    head
}

/// Whether the server has closed a connection; nothing else may arrive.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_nonblocking(false).unwrap();
    match read {
        Ok(0) => true,
        Ok(_) => panic!("bytes have arrived"),
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Waits until the gateway closes a connection.
async fn wait_closed(stream: &mut TcpStream) {
    wait_for(async || if is_closed(stream) { Ok(()) } else { Err("the connection is open".into()) }).await;
}

/// Waits until a metric has a value that is accepted.
async fn wait_metric(keygate: &Keygate, name: &str, is_expected: impl Fn(u64) -> bool) -> u64 {
    wait_for(async || match keygate.count(name).await {
        Some(value) if is_expected(value) => Ok(value),
        value => Err(format!("{name} is {value:?}")),
    })
    .await
}

/// The name of the gauge of the gateway's connections in a state.
fn open(state: &str) -> String {
    format!(r#"keygate_connections{{listener="gateway",state="{state}"}}"#)
}

/// The name of the counter of refused connections.
fn refused(listener: &str, reason: &str) -> String {
    format!(r#"keygate_connections_refused_total{{listener="{listener}",reason="{reason}"}}"#)
}

const UNAUTHORIZED: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: unknown\r\n\r\n";
const SECOND: Duration = Duration::from_secs(1);
