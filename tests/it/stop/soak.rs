//! A mixed load through everything that changes a gateway while it runs.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keygate_test_servers::{WAIT_TIMEOUT, eventually};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

use super::http2_load::{Kind, Load};
use super::load::client;
use super::upgrade::{Successor, has_ended, upgrade};
use crate::reload::{change, configuration, logged, reload, replace};
use crate::streams::grpc_service::GrpcUpstream;
use crate::streams::stream_upstream::StreamUpstream;
use crate::streams::{connect, open_socket};
use crate::support::keygate::Keygate;
use crate::support::memory::anonymous;
use crate::support::wait::wait_for;
use crate::upstreams::instance::Instance;

/// How long the load runs, in seconds, if the variable [`SECONDS`] has no other value.
const DEFAULT_SECONDS: u64 = 20;
const SECONDS: &str = "SOAK_SECONDS";
/// The clients of each protocol.
const CLIENTS: usize = 4;
/// The pause of a client between two messages of a WebSocket.
const PAUSE: Duration = Duration::from_millis(20);
/// How many events a client reads before it ends its stream, so that a process that was replaced does not wait for its grace period.
const EVENTS: usize = 5;
/// How much the memory may grow from the second upgrade to the end, in KiB. Reloads leave pieces of freed memory with the allocator, and
/// connections that are opened anew have their buffers at other places. In 300 s a load has more than 100,000 requests: with a leak of 200 bytes
/// each, the memory would grow by more.
const GROWTH: usize = 20 * 1024;

/// What happens while the load runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Reload,
    BadConfiguration,
    Upgrade,
    EndpointRestart,
}

/// Ten reloads. The memory is measured from the last upgrade on, so both are early.
const EVENTS_IN_ORDER: [Event; 14] = [
    Event::Reload,
    Event::Upgrade,
    Event::Reload,
    Event::Upgrade,
    Event::Reload,
    Event::EndpointRestart,
    Event::Reload,
    Event::Reload,
    Event::BadConfiguration,
    Event::Reload,
    Event::Reload,
    Event::Reload,
    Event::Reload,
    Event::Reload,
];

/// The clients of all protocols.
struct Clients {
    end: Arc<AtomicBool>,
    /// Responses, messages and events, by protocol: HTTP/1.1, WebSocket, event streams.
    counts: [Arc<AtomicUsize>; 3],
    http1: Vec<tokio::task::JoinHandle<Result<(), String>>>,
    /// Of WebSockets and event streams.
    threads: Vec<JoinHandle<Result<(), String>>>,
    /// HTTP/2 and gRPC.
    multiplexed: [Arc<Load>; 2],
    over_http2: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Clients {
    fn start(gateway: &str) -> Self {
        let end: Arc<AtomicBool> = Arc::default();
        let counts: [Arc<AtomicUsize>; 3] = Default::default();
        let address = gateway.trim_start_matches("http://");
        let http1 = (0..CLIENTS)
            .map(|_| tokio::spawn(client(address.to_owned(), Arc::clone(&counts[0]), Some(Arc::clone(&end)))));
        let blocking = |run: fn(&str, &AtomicUsize, &AtomicBool) -> Result<(), String>, count: &Arc<AtomicUsize>| {
            let (gateway, count, end) = (gateway.to_owned(), Arc::clone(count), Arc::clone(&end));
            thread::spawn(move || run(&gateway, &count, &end))
        };
        let threads = (0..CLIENTS).flat_map(|_| [blocking(web_socket, &counts[1]), blocking(event_stream, &counts[2])]);
        let threads = threads.collect();
        let multiplexed = [Kind::Get, Kind::Grpc].map(|kind| Arc::new(Load { kind, ..Load::default() }));
        let of_load = |load: &Arc<Load>| tokio::spawn(Arc::clone(load).client(address.to_owned()));
        let over_http2 = multiplexed.iter().flat_map(|load| (0..CLIENTS / 2).map(|_| of_load(load))).collect();
        Self { http1: http1.collect(), end, counts, threads, multiplexed, over_http2 }
    }

    /// The responses, messages and events so far, by protocol.
    fn counts(&self) -> [usize; 5] {
        let [http1, sockets, events] = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let [http2, grpc] = self.multiplexed.each_ref().map(|load| load.count.load(Ordering::Relaxed));
        [http1, sockets, events, http2, grpc]
    }

    /// Waits until each protocol had more responses.
    async fn go_on(&self) {
        let before = self.counts();
        wait_for(async || {
            let now = self.counts();
            let is_each = now.iter().zip(before).all(|(now, before)| *now > before + CLIENTS);
            if is_each { Ok(()) } else { Err(format!("{now:?} after {before:?}")) }
        })
        .await;
    }

    /// Ends the clients. Those of HTTP/2 and gRPC go on through the stop of the process.
    async fn end(self, process: &Successor) {
        self.end.store(true, Ordering::Relaxed);
        for client in self.http1 {
            assert_eq!(client.await.unwrap(), Ok(()), "HTTP/1.1");
        }
        for client in self.threads {
            assert_eq!(client.join().unwrap(), Ok(()), "a WebSocket or an event stream");
        }
        for load in &self.multiplexed {
            load.is_over.store(true, Ordering::Relaxed);
        }
        process.signal("TERM");
        for client in self.over_http2 {
            assert_eq!(client.await.unwrap(), Ok(()), "HTTP/2 or gRPC");
        }
    }
}

/// Sends messages over a WebSocket and waits for their echoes. A socket may end by the close frame of a stop only; then it is opened again.
fn web_socket(gateway: &str, count: &AtomicUsize, end: &AtomicBool) -> Result<(), String> {
    let is_over = || end.load(Ordering::Relaxed);
    while !is_over() {
        let mut socket = open_socket(connect(gateway), "/streams/socket", "").map_err(|status| status.to_string())?;
        while !is_over() {
            // A socket that the server has closed still has its close frame.
            let _ = socket.send(Message::text("hello"));
            match socket.read() {
                Ok(Message::Text(_)) => count.fetch_add(1, Ordering::Relaxed),
                Ok(Message::Close(Some(close))) if close.code == CloseCode::Away => break,
                Err(Error::ConnectionClosed) if is_over() => break,
                other => return Err(format!("a WebSocket ended with {other:?}")),
            };
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Reads event streams, some events of each. None of them may end before.
fn event_stream(gateway: &str, count: &AtomicUsize, end: &AtomicBool) -> Result<(), String> {
    while !end.load(Ordering::Relaxed) {
        let mut stream = BufReader::new(connect(gateway));
        let request = b"GET /streams/ticks HTTP/1.1\r\nHost: h\r\n\r\n";
        stream.get_mut().write_all(request).map_err(|error| format!("an event stream: {error}"))?;
        let mut events = 0;
        let mut line = String::new();
        while events < EVENTS {
            line.clear();
            match stream.read_line(&mut line) {
                Ok(1..) => {}
                ended => return Err(format!("an event stream ended after {events} events: {ended:?}")),
            }
            if line.starts_with("data: ") {
                events += 1;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// The gateway, and the process that serves it.
struct Soak {
    keygate: Keygate,
    /// The process that has replaced the first one.
    successor: Option<Successor>,
    endpoints: [Instance; 2],
    reloads: u32,
}

impl Soak {
    fn process(&self) -> u32 {
        self.successor.as_ref().map_or_else(|| self.keygate.process.id(), |successor| successor.0)
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Reload => {
                self.reloads += 1;
                let pool = json!({"pool": {"max_waiting": 100 + self.reloads}});
                reload(&self.keygate, &json!({"gateway": {"upstreams": {"api": pool}}})).await;
            }
            Event::BadConfiguration => {
                let good = configuration(&self.keygate);
                change(&self.keygate, &json!({"gateway": {"routes": [{"name": "a", "upstream": "none"}]}}));
                logged(&self.keygate, "the last good one stays in effect", 1).await;
                replace(&self.keygate, &good.to_string());
            }
            Event::Upgrade => {
                let before = self.process();
                let successor = upgrade(&self.keygate, before);
                match self.successor.replace(successor) {
                    None => assert!(self.keygate.process.wait(WAIT_TIMEOUT).success()),
                    Some(earlier) => eventually("the process that was replaced ends", || has_ended(earlier.0)),
                }
            }
            Event::EndpointRestart => {
                let url = self.endpoints[0].url.clone();
                // An instance ends when it is dropped; its address is free then.
                self.endpoints[0] = Instance::healthy();
                self.endpoints[0] = Instance::healthy_at(&url);
            }
        }
    }
}

fn gateway(endpoints: &[Instance; 2], streams: &StreamUpstream, grpc: &GrpcUpstream) -> Value {
    json!({
        "shutdown_grace": "60s",
        "routes": [
            {"name": "all", "upstream": "api", "auth": "none"},
            {"name": "streams", "path_prefix": "/streams", "upstream": "streams", "auth": "none"},
            {"name": "grpc", "path_prefix": "/test.Echo", "upstream": "grpc", "auth": "none"},
        ],
        "upstreams": {
            "api": {"endpoints": [endpoints[0].url, endpoints[1].url]},
            "streams": {"endpoints": [streams.url]},
            "grpc": {"endpoints": [grpc.url], "protocol": "http2"},
        }
    })
}

/// No request fails that HTTP spares a client. A request fails if its response has another status than 200, or breaks off, or if its
/// connection is refused or ends without a response. Three ends are no failures, because each client has to expect them:
///
/// - a connection whose response carried `Connection: close`, or that got GOAWAY, takes no further request; a request above the last stream of
///   GOAWAY was not processed, and is sent again (RFC 9113 section 6.8);
/// - a WebSocket ends at an upgrade with the close code 1001;
/// - the requests are GET, and gRPC calls to an endpoint that is not restarted, so the gateway may send them again.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_through_reloads_upgrades_a_bad_file_and_a_restart() {
    let seconds = std::env::var(SECONDS).map_or(DEFAULT_SECONDS, |text| text.parse().unwrap());
    let (streams, grpc) = (StreamUpstream::start(), GrpcUpstream::start().await);
    let endpoints = [Instance::healthy(), Instance::healthy()];
    // No client waits as long as this between two requests.
    let patient = json!({"serve": {"shutdown_idle_timeout": "5s"}});
    let keygate = Keygate::serve(&gateway(&endpoints, &streams, &grpc), &patient);
    let clients = Clients::start(&keygate.gateway);
    let mut soak = Soak { keygate, successor: None, endpoints, reloads: 0 };
    let began = Instant::now();
    let step = Duration::from_secs(seconds) / u32::try_from(EVENTS_IN_ORDER.len()).unwrap();
    let mut warm = 0;
    for (number, event) in (1..).zip(EVENTS_IN_ORDER) {
        clients.go_on().await;
        tokio::time::sleep_until((began + step * number).into()).await;
        if soak.successor.is_some() && event == Event::EndpointRestart {
            warm = anonymous(soak.process());
        }
        soak.apply(event).await;
    }
    clients.go_on().await;
    let grown = anonymous(soak.process()).saturating_sub(warm);
    println!("{:?} in {:?}; {warm} KiB, {grown} KiB more at the end", clients.counts(), began.elapsed());
    let process = soak.successor.take().unwrap();
    clients.end(&process).await;
    eventually("the last process ends", || has_ended(process.0));
    assert!(grown < GROWTH, "the memory has grown by {grown} KiB");
}
