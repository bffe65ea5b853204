//! The load: requests from a file to a proxy, by one of three clients.

mod fixed_rate;
mod h2load;
mod wrk;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::{Cores, is_installed};

pub(crate) use fixed_rate::{ARGUMENT as FIXED_RATE_ARGUMENT, send as send_at_fixed_rate};

/// Connections of HTTP/1.1, with one request in flight each.
const CONNECTIONS: usize = 32;
/// Requests a second of [`Traffic::FixedRate`].
pub(crate) const FIXED_RATE: u32 = 5_000;

/// How requests are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// As fast as they are answered, over connections that are kept alive.
    Full,
    /// The same over TLS 1.3.
    Tls,
    /// The same over HTTP/2 in clear text, with several requests in flight on each connection, all with the first credential.
    Http2,
    /// At a fixed rate, whether they are answered or not.
    FixedRate,
}

/// What came back.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Load {
    /// Answers of any kind.
    pub(crate) requests: u64,
    /// How long it took.
    pub(crate) micros: u64,
    /// Latencies; `None` if the client does not tell them.
    pub(crate) p50_micros: Option<f64>,
    pub(crate) p99_micros: Option<f64>,
    /// Answers with a status of 400 or more.
    pub(crate) refused: u64,
    /// Connections that could not be made or broke, and answers that did not come.
    pub(crate) broken: u64,
}

/// Makes load.
pub(crate) struct Generator {
    wrk: wrk::Wrk,
}

/// What is sent, and where to.
pub(crate) struct Task<'a> {
    pub(crate) traffic: Traffic,
    /// `ip:port`
    pub(crate) address: &'a str,
    /// A file of [`write_requests`].
    pub(crate) requests: &'a Path,
    pub(crate) seconds: u64,
    /// Where the client runs.
    pub(crate) cores: Cores,
}

impl Traffic {
    /// Whether its client is installed. Without wrk nothing is measured.
    pub(crate) fn is_available(self) -> bool {
        self != Self::Http2 || is_installed("h2load")
    }
}

impl Generator {
    /// One with its files in a folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { wrk: wrk::Wrk::new(folder) }
    }

    pub(crate) fn run(&self, task: &Task<'_>) -> Load {
        match task.traffic {
            Traffic::Full | Traffic::Tls => self.wrk.run(task),
            Traffic::Http2 => h2load::run(task),
            Traffic::FixedRate => fixed_rate::run(task),
        }
    }
}

/// Writes requests to a file, for [`Generator::run`]; the path of each, and its credential.
pub(crate) fn write_requests<'a>(file: &Path, requests: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let lines: Vec<String> = requests.into_iter().map(|(path, credential)| format!("{path} {credential}\n")).collect();
    std::fs::write(file, lines.concat()).unwrap();
}

/// What [`write_requests`] has written.
fn read_requests(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let split = |line: &str| line.split_once(' ').map(|(path, credential)| (path.to_owned(), credential.to_owned()));
    text.lines().filter_map(split).collect()
}

/// Runs a client that prints a line of JSON.
fn run_client(mut command: std::process::Command) -> Load {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with('{'));
    line.and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
