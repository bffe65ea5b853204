//! Streams through the gateway: WebSockets, event streams and gRPC calls, what ends them, and the timeouts of upstreams.

mod ends;
mod grpc;
pub(crate) mod grpc_service;
mod paused;
mod stop;
pub(crate) mod stream_upstream;
mod timeouts;
mod websocket;

use std::io::{Read, Write};
use std::net::TcpStream;

use keygate_test_servers::WAIT_TIMEOUT;
use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{HandshakeError, Message, WebSocket};

use crate::support::keygate::Keygate;

/// Connects to the address of an `http` URL; reads fail after [`WAIT_TIMEOUT`].
pub(crate) fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream
}

/// Opens a WebSocket on a connection; the status if it is refused.
pub(crate) fn open_socket<S: Read + Write>(stream: S, path: &str, key: &str) -> Result<WebSocket<S>, u16> {
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    request.headers_mut().insert("authorization", HeaderValue::try_from(format!("Bearer {key}")).unwrap());
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// Sends a text and waits for its echo.
fn echo<S: Read + Write>(socket: &mut WebSocket<S>, text: &str) {
    socket.send(Message::text(text)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text(text));
}

/// Sends a GET request on a connection and reads until what was received ends with `end`.
fn get<S: Read + Write>(stream: &mut S, path: &str, key: &str, end: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    let mut byte = [0];
    while !received.ends_with(end.as_bytes()) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&received));
        received.push(byte[0]);
    }
    String::from_utf8_lossy(&received).into_owned()
}

/// What arrives until the connection ends.
fn rest<S: Read>(stream: &mut S) -> String {
    let mut rest = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return String::from_utf8_lossy(&rest).into_owned(),
            Ok(length) => rest.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return String::from_utf8_lossy(&rest).into_owned();
            }
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&rest)),
        }
    }
}

/// Status, code and truncation in the access-log lines of paths that begin with `path`.
fn logged(log: &str, path: &str) -> Vec<(u64, String, bool)> {
    let lines = log.lines().filter(|line| line.contains(r#""target":"keygate::access""#));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line["path"].as_str().unwrap().starts_with(path));
    lines
        .map(|line| {
            let denial = line["denial"].as_str().unwrap_or_default().to_owned();
            (line["status"].as_u64().unwrap(), denial, line["truncated"].as_bool().unwrap_or_default())
        })
        .collect()
}

/// The number of live streams of a node.
async fn live(keygate: &Keygate) -> u64 {
    let mut sum = 0;
    for kind in ["websocket", "event_stream", "grpc"] {
        sum += keygate.count(&format!("keygate_live_streams{{kind=\"{kind}\"}}")).await.unwrap();
    }
    sum
}
