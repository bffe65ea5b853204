//! An upstream on plain sockets whose responses take their time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::support::upstream::header;
use crate::support::wait::wait_for;

/// How often `/drip` and `/ticks` send something.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How long `/pause` and `/paused-events` are silent between their two parts.
pub(super) const PAUSE: Duration = Duration::from_secs(3);

/// The path of a request selects the response, see [`respond`].
pub(crate) struct StreamUpstream {
    pub(crate) url: String,
    open: Arc<AtomicUsize>,
}

/// Counts a connection until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl StreamUpstream {
    /// Starts an upstream; it ends with the test process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&open);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                shared.fetch_add(1, Ordering::Relaxed);
                let open = Open(Arc::clone(&shared));
                std::thread::spawn(move || {
                    let _open = open;
                    // The gateway closes the connection as soon as it ends a stream.
                    let _ = serve(&stream.unwrap());
                });
            }
        });
        Self { url, open }
    }

    /// The number of open connections.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until this number of connections is open.
    pub(super) async fn has_open(&self, number: usize) {
        wait_for(async || match self.open() {
            open if open == number => Ok(()),
            open => Err(format!("{open} connections are open")),
        })
        .await;
    }
}

fn serve(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        respond(stream, &mut reader, &head)?;
    }
}

fn respond(mut stream: &TcpStream, reader: &mut impl Read, head: &str) -> std::io::Result<()> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path.rsplit('/').next().unwrap_or_default() {
        "socket" => {
            upgrade(stream, head)?;
            // Closes with an error as soon as the gateway does.
            let _ = echo(WebSocket::from_raw_socket(stream, Role::Server, None));
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        // The first three bytes of a frame of ten, and nothing more.
        "half-frame" => {
            upgrade(stream, head)?;
            stream.write_all(b"\x82\x0aabc")?;
            wait_for_end(reader)
        }
        "events" => {
            stream.write_all(&[&event_head(), &b"9\r\ndata: 1\n\n\r\n"[..]].concat())?;
            wait_for_end(reader)
        }
        "ticks" => {
            stream.write_all(&event_head())?;
            drip(stream, b"9\r\ndata: 1\n\n\r\n")
        }
        "drip" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            drip(stream, b"1\r\nx\r\n")
        }
        "pause" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            pause(stream)
        }
        "paused-events" => {
            stream.write_all(&event_head())?;
            pause(stream)
        }
        "silent" => wait_for_end(reader),
        "stalled" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")?;
            wait_for_end(reader)
        }
        "large" => {
            let body = vec![b'x'; 16 * 1024 * 1024];
            stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())?;
            stream.write_all(&body)
        }
        _ => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    }
}

fn event_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
}

fn upgrade(mut stream: &TcpStream, head: &str) -> std::io::Result<()> {
    let key = header(head, "sec-websocket-key").unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    stream.write_all(format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes())
}

/// Answers each message with itself.
fn echo(mut socket: WebSocket<&TcpStream>) -> tungstenite::Result<()> {
    loop {
        if let message @ (Message::Text(_) | Message::Binary(_)) = socket.read()? {
            socket.send(message)?;
        }
    }
}

/// Sends a part of a body until the gateway closes the connection.
fn drip(mut stream: &TcpStream, part: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(part)?;
        std::thread::sleep(TICK);
    }
}

/// Sends a body in two parts.
fn pause(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(b"9\r\ndata: 1\n\n\r\n")?;
    std::thread::sleep(PAUSE);
    stream.write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
}

fn wait_for_end(reader: &mut impl Read) -> std::io::Result<()> {
    std::io::copy(reader, &mut std::io::sink())?;
    Err(std::io::ErrorKind::ConnectionAborted.into())
}
