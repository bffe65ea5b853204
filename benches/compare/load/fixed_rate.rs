//! A client with a fixed rate: request n is due at n ÷ rate, whether earlier ones have been answered or not. Latency counts from that time,
//! so that requests that wait behind a slow one are slow themselves (no coordinated omission).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use super::{CONNECTIONS, FIXED_RATE, Load, Task, read_requests, run_client};

/// This program, called with this argument, the address, the file of requests and the seconds, is the client.
pub(crate) const ARGUMENT: &str = "--fixed-rate";
/// From when all connections are made to the first request.
const LEAD: Duration = Duration::from_millis(20);
/// How long after the last request is due a server may be behind.
const PATIENCE: Duration = Duration::from_secs(1);
/// An answer that takes longer breaks the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What is sent when.
struct Plan {
    address: String,
    requests: Vec<String>,
    start: Instant,
    count: u32,
}

/// What a connection got.
#[derive(Default)]
struct Answers {
    latencies: Vec<Duration>,
    refused: u64,
    broken: u64,
}

/// Runs this program once more, as the client.
pub(super) fn run(task: &Task<'_>) -> Load {
    let mut command = task.cores.command(&std::env::current_exe().unwrap());
    command.args([ARGUMENT, task.address]).arg(task.requests).arg(task.seconds.to_string());
    run_client(command)
}

/// Sends, and prints what came back. A thread for each connection sleeps until its next request is due and waits for the answer.
pub(crate) fn send(mut arguments: impl Iterator<Item = String>) {
    sleep_precisely();
    let address = arguments.next().unwrap();
    let file = PathBuf::from(arguments.next().unwrap());
    let seconds: u32 = arguments.next().unwrap().parse().unwrap();
    let connections: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(&address).unwrap()).collect();
    let requests = requests(&address, &file);
    let plan = Plan { address, requests, start: Instant::now() + LEAD, count: FIXED_RATE * seconds };
    let answers: Vec<Answers> = scope(|scope| {
        let plan = &plan;
        let start = |(first, stream)| scope.spawn(move || plan.follow(first, stream));
        let threads: Vec<ScopedJoinHandle<'_, Answers>> = (0..).zip(connections).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("{}", serde_json::to_string(&sum(answers, plan.start.elapsed())).unwrap());
}

impl Plan {
    /// Sends every request whose turn it is on a connection.
    fn follow(&self, first: u32, mut stream: TcpStream) -> Answers {
        let mut answers = Answers::default();
        let mut buffer = vec![0; 16 * 1024];
        let give_up = self.due(self.count) + PATIENCE;
        for number in (first..self.count).step_by(CONNECTIONS) {
            let due = self.due(number);
            sleep(due.saturating_duration_since(Instant::now()));
            if Instant::now() > give_up {
                answers.broken += 1;
                continue;
            }
            let request = &self.requests[number as usize % self.requests.len()];
            if let Ok(status) = exchange(&mut stream, request, &mut buffer) {
                answers.latencies.push(due.elapsed());
                answers.refused += u64::from(status >= 400);
            } else {
                answers.broken += 1;
                stream = connect(&self.address).unwrap();
            }
        }
        answers
    }

    fn due(&self, number: u32) -> Instant {
        self.start + Duration::from_secs(1) * number / FIXED_RATE
    }
}

/// Timers of a process may fire 50 µs late to save wake-ups; those of this one, and of its threads, are not to.
fn sleep_precisely() {
    if let Err(error) = std::fs::write("/proc/self/timerslack_ns", "1") {
        eprintln!("requests may be sent 50 µs late: the timer slack cannot be set: {error}");
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

fn requests(address: &str, file: &Path) -> Vec<String> {
    let text = |(path, credential)| {
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {credential}\r\n\r\n")
    };
    read_requests(file).into_iter().map(text).collect()
}

/// Sends a request and reads the answer, which has a `Content-Length`; its status.
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

fn content_length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).expect("an answer with a Content-Length")
}

fn sum(answers: Vec<Answers>, took: Duration) -> Load {
    let (refused, broken) =
        answers.iter().fold((0, 0), |(refused, broken), some| (refused + some.refused, broken + some.broken));
    let mut latencies: Vec<Duration> = answers.into_iter().flat_map(|answers| answers.latencies).collect();
    latencies.sort_unstable();
    let percentile = |percent: usize| {
        let latency = latencies.get(latencies.len() * percent / 100)?;
        Some(latency.as_secs_f64() * 1e6)
    };
    Load {
        requests: latencies.len() as u64,
        micros: u64::try_from(took.as_micros()).unwrap(),
        p50_micros: percentile(50),
        p99_micros: percentile(99),
        refused,
        broken,
    }
}
