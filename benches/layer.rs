//! The cost of the Tower layer: processor time of an axum service with and without it, for requests with cached keys over HTTP/1.1 on
//! loopback. Both services run in turn in one process, each on a thread of its own, so that the ratio does not depend on the machine. The
//! services have the first processor, and the clients the second, as in `make bench`: otherwise clients and services drive each other's
//! code and data from the caches of a processor.
//!
//! `ROUNDS=5 REQUESTS=40000 cargo bench --bench layer --features axum`

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;

use axum::Router;
use axum::routing::get;
use keygate::layer::{AuthLayer, Principal};
use keygate::testing;
use rustix::thread::{CpuSet, sched_setaffinity};
use tower::layer::util::Identity;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The processors of the services and of the clients.
const SERVICES: usize = 0;
const CLIENTS: usize = 1;
const CONNECTIONS: usize = 16;
const KEYS: usize = 1_000;
/// Requests before the first measured round.
const WARM_UP: usize = 10_000;

/// A service on a thread of its own.
struct Service {
    address: SocketAddr,
    /// The time that the thread has been on a processor, and more.
    statistics: PathBuf,
}

impl Service {
    fn start(router: Router) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            pin(SERVICES);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let thread = std::fs::read_link("/proc/thread-self").unwrap();
                let statistics = PathBuf::from("/proc").join(thread).join("schedstat");
                sender.send(Self { address: listener.local_addr().unwrap(), statistics }).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        receiver.recv().unwrap()
    }

    /// Nanoseconds on a processor.
    fn processor_time(&self) -> u64 {
        let text = std::fs::read_to_string(&self.statistics).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    /// Processor time of a request in nanoseconds.
    fn measure(&self, requests: usize, keys: &[String]) -> f64 {
        let start = self.processor_time();
        std::thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                scope.spawn(move || {
                    pin(CLIENTS);
                    send(self.address, requests / CONNECTIONS, keys, connection);
                });
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "figures of a report")]
        let each = (self.processor_time() - start) as f64 / (requests / CONNECTIONS * CONNECTIONS) as f64;
        each
    }
}

/// Runs this thread on one processor, if there is more than one.
fn pin(processor: usize) {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
        let mut processors = CpuSet::new();
        processors.set(processor);
        sched_setaffinity(None, &processors).unwrap();
    }
}

/// Sends requests on one connection, each with the next key.
fn send(address: SocketAddr, requests: usize, keys: &[String], first: usize) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(&stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    for number in 0..requests {
        let key = &keys[(first + number * CONNECTIONS) % keys.len()];
        let head = format!(
            "GET /orders/1 HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        (&stream).write_all(head.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            assert!(!line.starts_with("HTTP/1.1") || line.starts_with("HTTP/1.1 200"), "{line}");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).unwrap();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn variable(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let (rounds, requests) = (variable("ROUNDS", 5), variable("REQUESTS", 40_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = runtime.block_on(testing::engine());
    let issue =
        |number: usize| runtime.block_on(testing::issue_key(&engine, &format!("actor-{number}"), ["orders:read"]));
    let keys: Vec<String> = (0..KEYS).map(issue).collect();

    let bare = Service::start(Router::new().route("/orders/{id}", get(async || "hello")));
    // axum boxes the service and its response around every layer, whatever the layer does.
    let identity = Service::start(Router::new().route("/orders/{id}", get(async || "hello").layer(Identity::new())));
    let auth = AuthLayer::new(&engine).require_scopes(["orders:read"]);
    let handler = async |caller: Principal| if caller.actor_id().is_empty() { "" } else { "hello" };
    let layered = Service::start(Router::new().route("/orders/{id}", get(handler).layer(auth)));

    let services = [&bare, &identity, &layered];
    for service in services {
        service.measure(WARM_UP, &keys);
    }
    println!("processor time of a request, medians of {rounds} rounds of {requests} requests");
    for (title, keys) in [("one key", &keys[..1]), ("1,000 keys in rotation", &keys[..])] {
        report(title, services, keys, (rounds, requests));
    }
}

/// Measures the services in turn, and prints the medians.
fn report(title: &str, services: [&Service; 3], keys: &[String], (rounds, requests): (usize, usize)) {
    let times: Vec<[f64; 3]> = (0..rounds).map(|_| services.map(|service| service.measure(requests, keys))).collect();
    let of = |value: fn(&[f64; 3]) -> f64| median(times.iter().map(value).collect());
    println!("\n{title}");
    println!("axum                             {:8.0} ns", of(|times| times[0]));
    println!("axum with a layer without effect {:8.0} ns", of(|times| times[1]));
    println!("axum with AuthLayer              {:8.0} ns", of(|times| times[2]));
    println!("AuthLayer ÷ axum                 {:8.3}", of(|times| times[2] / times[0]));
    println!("AuthLayer - axum                 {:8.0} ns", of(|times| times[2] - times[0]));
    println!("AuthLayer - layer without effect {:8.0} ns", of(|times| times[2] - times[1]));
}
