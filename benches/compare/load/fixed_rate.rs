//! A load generator that sends HTTP/1.1 requests at a fixed rate. The due time of request n is n ÷ rate seconds after the start, and does
//! not depend on earlier responses.
//!
//! Latency is measured from the due time. It includes the time for which a request waits for an earlier response on its connection, so
//! there is no coordinated omission.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use super::{CONNECTIONS, FIXED_RATE, Load, Task, read_requests, run_command};

/// The argument that starts this program as the load generator. The address of the proxy, the file of requests and the duration in
/// seconds follow it.
pub(crate) const ARGUMENT: &str = "--fixed-rate";
/// The delay between the setup of the connections and the due time of the first request.
const START_DELAY: Duration = Duration::from_millis(20);
/// The maximum time for which requests are sent after the end of the schedule. Later requests are not sent, and count as
/// errors. This bounds the run time with a proxy that is slower than the rate.
const MAX_OVERRUN: Duration = Duration::from_secs(1);
/// The timeout of a read. On expiry, the request counts as an error and the connection is replaced.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The end of the header section of a response.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The requests and their due times.
struct Schedule {
    /// The address of the proxy, as `ip:port`.
    address: String,
    /// Complete HTTP/1.1 requests, sent in rotation.
    requests: Vec<String>,
    /// The due time of the first request.
    start: Instant,
    /// The number of requests on all connections.
    count: u32,
}

/// The results of one connection.
#[derive(Default)]
struct ConnectionResults {
    /// The latency of each response.
    latencies: Vec<Duration>,
    /// Responses with a status of 400 or more.
    refused: u64,
    /// Requests without a complete response, including requests that were not sent.
    broken: u64,
}

/// Runs this program as the load generator, in a new process.
pub(super) fn run(task: &Task<'_>) -> Load {
    let mut command = task.cores.command(&std::env::current_exe().unwrap());
    command.args([ARGUMENT, task.address]).arg(task.requests).arg(task.seconds.to_string());
    run_command(command)
}

/// Sends the requests and prints a [`Load`] as one line of JSON. Each connection has a thread, which sleeps until the due time of its next
/// request, sends the request and waits for the response.
pub(crate) fn send(mut arguments: impl Iterator<Item = String>) {
    set_timer_slack();
    let address = arguments.next().unwrap();
    let file = PathBuf::from(arguments.next().unwrap());
    let seconds: u32 = arguments.next().unwrap().parse().unwrap();
    let connections: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(&address).unwrap()).collect();
    let requests = format_requests(&address, &file);
    let schedule = Schedule { address, requests, start: Instant::now() + START_DELAY, count: FIXED_RATE * seconds };
    let results: Vec<ConnectionResults> = scope(|scope| {
        let schedule = &schedule;
        let spawn = |(first, stream)| scope.spawn(move || schedule.run_connection(first, stream));
        let threads: Vec<ScopedJoinHandle<'_, ConnectionResults>> = (0..).zip(connections).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("{}", serde_json::to_string(&merge(results, schedule.start.elapsed())).unwrap());
}

impl Schedule {
    /// Sends the requests of one connection: request `first` and every [`CONNECTIONS`]th request after it. Replaces the connection after an
    /// error, and panics if that fails.
    fn run_connection(&self, first: u32, mut stream: TcpStream) -> ConnectionResults {
        let mut results = ConnectionResults::default();
        let mut buffer = vec![0; 16 * 1024];
        let deadline = self.due_time(self.count) + MAX_OVERRUN;
        for number in (first..self.count).step_by(CONNECTIONS) {
            let due_time = self.due_time(number);
            sleep(due_time.saturating_duration_since(Instant::now()));
            if Instant::now() > deadline {
                results.broken += 1;
                continue;
            }
            let request = &self.requests[number as usize % self.requests.len()];
            if let Ok(status) = exchange(&mut stream, request, &mut buffer) {
                results.latencies.push(due_time.elapsed());
                results.refused += u64::from(status >= 400);
            } else {
                results.broken += 1;
                stream = connect(&self.address).unwrap();
            }
        }
        results
    }

    /// The due time of a request. For `count`, the end of the schedule.
    fn due_time(&self, number: u32) -> Instant {
        self.start + Duration::from_secs(1) * number / FIXED_RATE
    }
}

/// Sets the timer slack of this thread to 1 ns. Threads that it spawns inherit the value. With the default of Linux, timers fire up to
/// 50 µs late. Prints a warning on failure.
fn set_timer_slack() {
    if let Err(error) = std::fs::write("/proc/self/timerslack_ns", "1") {
        eprintln!("the timer slack cannot be set, so requests may be sent 50 µs late: {error}");
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok(stream)
}

/// Reads the file of requests and formats each as an HTTP/1.1 request.
fn format_requests(address: &str, file: &Path) -> Vec<String> {
    let request = |(path, credential)| {
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {credential}\r\n\r\n")
    };
    read_requests(file).into_iter().map(request).collect()
}

/// Sends a request, reads the response and returns its status. Fails if the response is malformed or does not fit in `buffer`. Panics if
/// it has no valid `Content-Length`.
fn exchange(stream: &mut TcpStream, request: &str, buffer: &mut [u8]) -> io::Result<u16> {
    stream.write_all(request.as_bytes())?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let received = &buffer[..filled];
        let Some(head) = received.windows(HEAD_END.len()).position(|window| window == HEAD_END) else { continue };
        let text = str::from_utf8(&received[..head]).map_err(io::Error::other)?;
        if filled >= head + HEAD_END.len() + content_length(text) {
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
            return status.ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}

/// The value of `Content-Length` in the head of a response. Panics if it is missing or invalid.
fn content_length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).expect("missing or invalid Content-Length")
}

/// Merges the results of all connections.
fn merge(results: Vec<ConnectionResults>, elapsed: Duration) -> Load {
    let (refused, broken) =
        results.iter().fold((0, 0), |(refused, broken), one| (refused + one.refused, broken + one.broken));
    let mut latencies: Vec<Duration> = results.into_iter().flat_map(|one| one.latencies).collect();
    latencies.sort_unstable();
    let percentile = |percent: usize| {
        let latency = latencies.get(latencies.len() * percent / 100)?;
        Some(latency.as_secs_f64() * 1e6)
    };
    Load {
        requests: latencies.len() as u64,
        micros: u64::try_from(elapsed.as_micros()).unwrap(),
        p50_micros: percentile(50),
        p99_micros: percentile(99),
        refused,
        broken,
    }
}
