//! Clients that send one request after another, each on a connection of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::slots::SERVICE;
use crate::support::keygate::Keygate;
use crate::support::upstream::header;

/// A plain request.
pub(super) const PLAIN: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
/// A gRPC call, as far as its rejection matters.
pub(super) const GRPC: &str =
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";

/// Clients that run until they are stopped.
pub(super) struct Clients {
    tasks: JoinSet<()>,
    counts: Arc<Counts>,
}

/// What clients received.
#[derive(Default)]
struct Counts {
    is_stopped: AtomicBool,
    served: AtomicUsize,
    refused: AtomicUsize,
    /// The heads of other responses.
    wrong: Mutex<Vec<String>>,
}

/// Numbers of responses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) served: usize,
    pub(super) refused: usize,
}

/// Responses per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) served: f64,
    pub(super) refused: f64,
}

impl Clients {
    /// Starts a client for each request. Each sends the next request when it has the response; after a refusal it waits as long as a
    /// request takes.
    pub(super) fn start<R: Into<String>>(keygate: &Keygate, requests: impl IntoIterator<Item = R>) -> Self {
        let counts: Arc<Counts> = Arc::default();
        let address = keygate.gateway.trim_start_matches("http://");
        let client = |request: R| client(address.to_owned(), request.into(), Arc::clone(&counts));
        let tasks = requests.into_iter().map(client).collect();
        Self { tasks, counts }
    }

    /// What was received so far.
    pub(super) fn received(&self) -> Received {
        let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        Received { served: count(&self.counts.served), refused: count(&self.counts.refused) }
    }

    /// The rates of the responses within a time.
    pub(super) async fn rates(&self, time: Duration) -> Rates {
        let (before, began) = (self.received(), Instant::now());
        // The time of the measurement.
        tokio::time::sleep(time).await;
        let (after, seconds) = (self.received(), began.elapsed().as_secs_f64());
        let rate = |count: usize| f64::from(u32::try_from(count).unwrap()) / seconds;
        Rates { served: rate(after.served - before.served), refused: rate(after.refused - before.refused) }
    }

    /// Ends the clients, each after its request. Panics if one received anything but its response and refusals in the right form.
    pub(super) async fn stop(mut self) -> Received {
        self.counts.is_stopped.store(true, Ordering::SeqCst);
        while self.tasks.join_next().await.transpose().unwrap().is_some() {}
        let wrong = self.counts.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} responses, the first is {}", wrong.len(), wrong[0]);
        self.received()
    }
}

async fn client(address: String, request: String, counts: Arc<Counts>) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let is_grpc = request.contains("application/grpc");
    while !counts.is_stopped.load(Ordering::SeqCst) {
        stream.get_mut().write_all(request.as_bytes()).await.unwrap();
        let head = response(&mut stream).await;
        if is_refusal(&head, is_grpc) {
            counts.refused.fetch_add(1, Ordering::SeqCst);
            // The pause of the client.
            tokio::time::sleep(SERVICE).await;
        } else if head.starts_with("HTTP/1.1 200 ") && header(&head, "grpc-status").is_none() {
            counts.served.fetch_add(1, Ordering::SeqCst);
        } else {
            counts.wrong.lock().unwrap().push(head);
        }
    }
}

/// The head of a response, whose body is read as well.
async fn response(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).await.unwrap() > 0, "the connection ended after {head:?}");
    }
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head
}

/// Whether a response is a refusal because of overload, in the right form.
fn is_refusal(head: &str, is_grpc: bool) -> bool {
    let is_status = if is_grpc {
        head.starts_with("HTTP/1.1 200 ") && header(head, "grpc-status") == Some("14")
    } else {
        head.starts_with("HTTP/1.1 503 ")
    };
    is_status && header(head, "retry-after") == Some("1")
}

/// The sum of the requests that a gateway has refused because of overload, for all reasons.
pub(super) async fn shed(keygate: &Keygate) -> u64 {
    let mut sum = 0;
    for reason in ["in_flight", "listener_in_flight", "max_waiting", "wait_timeout", "wait_target"] {
        sum += shed_because(keygate, reason).await;
    }
    sum
}

/// The number of requests that a gateway has refused because of overload, for a reason.
pub(super) async fn shed_because(keygate: &Keygate, reason: &str) -> u64 {
    let name = format!("keygate_gateway_shed_requests_total{{reason=\"{reason}\"}}");
    keygate.count(&name).await.unwrap_or(0)
}
