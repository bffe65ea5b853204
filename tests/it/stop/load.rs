//! Stops in the middle of a constant load.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::gateway;
use crate::support::keygate::Keygate;
use crate::support::upstream::{Upstream, header};
use crate::support::wait::wait_for;

const CONNECTIONS: usize = 20;
const STOPS: usize = 10;
/// The number of requests before each stop.
const REQUESTS: usize = 1_000;

/// Sends requests without a pause, until no server accepts connections, or if there is a flag, until that is set. It connects again after a
/// response with `Connection: close`, and sends no request a second time.
pub(super) async fn client(
    address: String,
    count: Arc<AtomicUsize>,
    end: Option<Arc<AtomicBool>>,
) -> Result<(), String> {
    let is_over = || end.as_ref().is_some_and(|end| end.load(Ordering::Relaxed));
    while !is_over() {
        let stream = match TcpStream::connect(&address).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && end.is_none() => return Ok(()),
            Err(error) => return Err(format!("connect: {error}")),
        };
        let mut stream = BufReader::new(stream);
        let mut served = 0;
        while !is_over() {
            match exchange(&mut stream).await {
                Ok(is_last) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    served += 1;
                    if is_last {
                        break;
                    }
                }
                Err(error) => return Err(format!("request {served} of a connection: {error}")),
            }
        }
    }
    Ok(())
}

/// One request; whether the connection ends with its response.
async fn exchange(stream: &mut BufReader<TcpStream>) -> io::Result<bool> {
    stream.get_mut().write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("after {head:?}")));
        }
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = vec![0; header(&head, "content-length").unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await?;
    Ok(header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_through_ten_stops() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({"serve": {"shutdown_idle_timeout": "5s"}}));
    for stop in 0..STOPS {
        if stop > 0 {
            keygate.start_again();
        }
        let count = Arc::new(AtomicUsize::new(0));
        let address = keygate.gateway.trim_start_matches("http://");
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|_| tokio::spawn(client(address.to_owned(), Arc::clone(&count), None))).collect();
        stop_under_load(&keygate, &count).await;
        for client in clients {
            assert_eq!(client.await.unwrap(), Ok(()), "stop {stop}");
        }
        assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    }
}

/// Sends SIGTERM once the clients have had some responses.
async fn stop_under_load(keygate: &Keygate, count: &AtomicUsize) {
    wait_for(async || match count.load(Ordering::Relaxed) {
        REQUESTS.. => Ok(()),
        requests => Err(format!("{requests} requests")),
    })
    .await;
    keygate.process.signal("TERM");
}

/// Sends each request on a connection of its own, until no server accepts connections. Returns how long the refusal took.
async fn client_of_new_connections(address: String, count: Arc<AtomicUsize>) -> Result<Duration, String> {
    loop {
        let start = Instant::now();
        match TcpStream::connect(&address).await {
            Ok(stream) => {
                exchange(&mut BufReader::new(stream)).await.map_err(|error| format!("a request: {error}"))?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(start.elapsed()),
            Err(error) => return Err(format!("connect: {error}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_at_the_stop_are_served_or_refused() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let mut refusals = Vec::new();
    for stop in 0..STOPS {
        if stop > 0 {
            keygate.start_again();
        }
        let count = Arc::new(AtomicUsize::new(0));
        let address = keygate.gateway.trim_start_matches("http://");
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| tokio::spawn(client_of_new_connections(address.to_owned(), Arc::clone(&count))))
            .collect();
        stop_under_load(&keygate, &count).await;
        for client in clients {
            refusals.push(client.await.unwrap().unwrap_or_else(|error| panic!("stop {stop}: {error}")));
        }
        assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    }
    // Attempts at the stop are repeated after a second, when the socket is closed.
    assert!(refusals.iter().any(|refusal| *refusal > Duration::from_millis(500)), "{refusals:?}");
}
