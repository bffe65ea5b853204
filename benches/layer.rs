//! Cost of the Tower layer: CPU time of an axum service with and without it, for requests with cached keys over HTTP/1.1 on loopback. The
//! services run in one process, each on its own thread, and are measured alternately, so that their ratio depends little on the machine
//! and its load. The services are pinned to the first CPU and the clients to the second, as in `make bench`. Without pinning, clients and
//! services would evict each other's code and data from the caches of a CPU.
//!
//! `ROUNDS=5 REQUESTS=40000 cargo bench --bench layer --features axum`

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

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

/// The CPU of the services.
const SERVICE_CPU: usize = 0;
/// The CPU of the clients.
const CLIENT_CPU: usize = 1;
const CONNECTIONS: usize = 16;
const KEYS: usize = 1_000;
/// The number of warm-up requests to each service before the first round.
const WARM_UP: usize = 10_000;

/// A service on its own thread.
struct Service {
    address: SocketAddr,
    /// The path of the `schedstat` file of the thread, which contains its CPU time.
    schedstat: PathBuf,
}

impl Service {
    fn start(router: Router) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            pin(SERVICE_CPU);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let thread = std::fs::read_link("/proc/thread-self").unwrap();
                let schedstat = PathBuf::from("/proc").join(thread).join("schedstat");
                sender.send(Self { address: listener.local_addr().unwrap(), schedstat }).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        receiver.recv().unwrap()
    }

    /// The CPU time of the thread in nanoseconds.
    fn cpu_time(&self) -> u64 {
        let text = std::fs::read_to_string(&self.schedstat).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    /// Sends requests and returns the mean CPU time per request in nanoseconds.
    fn measure(&self, requests: usize, keys: &[String]) -> f64 {
        let start = self.cpu_time();
        std::thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                scope.spawn(move || {
                    pin(CLIENT_CPU);
                    send(self.address, requests / CONNECTIONS, keys, connection);
                });
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "the result is only reported")]
        let each = (self.cpu_time() - start) as f64 / (requests / CONNECTIONS * CONNECTIONS) as f64;
        each
    }
}

/// Pins the current thread to a CPU if the machine has more than one.
fn pin(cpu: usize) {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus).unwrap();
    }
}

/// Sends requests on one connection. Request n uses the key at index `first + n * CONNECTIONS`, modulo the number of keys.
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
    // axum boxes the service and its response for every layer. This service shows the cost of that alone.
    let with_identity =
        Service::start(Router::new().route("/orders/{id}", get(async || "hello").layer(Identity::new())));
    let auth = AuthLayer::new(&engine).require_scopes(["orders:read"]);
    let handler = async |caller: Principal| if caller.actor_id().is_empty() { "" } else { "hello" };
    let with_auth = Service::start(Router::new().route("/orders/{id}", get(handler).layer(auth)));

    let services = [&bare, &with_identity, &with_auth];
    for service in services {
        service.measure(WARM_UP, &keys);
    }
    println!("CPU time per request, medians of {rounds} rounds of {requests} requests");
    for (title, keys) in [("one key", &keys[..1]), ("1,000 keys in rotation", &keys[..])] {
        report(title, services, keys, (rounds, requests));
    }
}

/// Measures the services alternately and prints the medians.
fn report(title: &str, services: [&Service; 3], keys: &[String], (rounds, requests): (usize, usize)) {
    let times: Vec<[f64; 3]> = (0..rounds).map(|_| services.map(|service| service.measure(requests, keys))).collect();
    let median_of = |value: fn(&[f64; 3]) -> f64| median(times.iter().map(value).collect());
    println!("\n{title}");
    println!("axum                             {:8.0} ns", median_of(|times| times[0]));
    println!("axum with a layer without effect {:8.0} ns", median_of(|times| times[1]));
    println!("axum with AuthLayer              {:8.0} ns", median_of(|times| times[2]));
    println!("AuthLayer ÷ axum                 {:8.3}", median_of(|times| times[2] / times[0]));
    println!("AuthLayer - axum                 {:8.0} ns", median_of(|times| times[2] - times[0]));
    println!("AuthLayer - layer without effect {:8.0} ns", median_of(|times| times[2] - times[1]));
}
