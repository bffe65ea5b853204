//! Generates load: sends the requests of a file to a proxy with one of three load generators.

mod fixed_rate;
mod h2load;
mod wrk;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::{Cores, is_installed};

pub(crate) use fixed_rate::{ARGUMENT as FIXED_RATE_ARGUMENT, send as send_at_fixed_rate};

/// The number of HTTP/1.1 connections. Each has at most one request in flight.
const CONNECTIONS: usize = 32;
/// Requests per second of [`Traffic::FixedRate`].
pub(crate) const FIXED_RATE: u32 = 5_000;

/// The protocol and the rate of requests. Connections are kept alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// HTTP/1.1 in clear text at full load: each connection sends its next request as soon as it receives the response.
    Full,
    /// HTTP/1.1 over TLS 1.3 at full load.
    Tls,
    /// HTTP/2 in clear text at full load, with several requests in flight on each connection. Only the first request of the file is sent.
    Http2,
    /// HTTP/1.1 in clear text at [`FIXED_RATE`]. The due time of a request does not depend on earlier responses.
    FixedRate,
}

/// The result of a load generator.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Load {
    /// Responses with any status.
    pub(crate) requests: u64,
    /// The duration of the load, in microseconds.
    pub(crate) micros: u64,
    /// The median latency, in microseconds. `None` if the load generator does not report it.
    pub(crate) p50_micros: Option<f64>,
    /// The 99th percentile of the latency, in microseconds. `None` if the load generator does not report it.
    pub(crate) p99_micros: Option<f64>,
    /// Responses with a status of 400 or more.
    pub(crate) refused: u64,
    /// Connection errors and timeouts. [`Traffic::FixedRate`] also counts requests that were not sent.
    pub(crate) broken: u64,
}

/// Runs the load generator of each kind of traffic.
pub(crate) struct Generator {
    wrk: wrk::Wrk,
}

/// The parameters of one run of a load generator.
pub(crate) struct Task<'a> {
    pub(crate) traffic: Traffic,
    /// The address of the proxy, as `ip:port`.
    pub(crate) address: &'a str,
    /// A file written by [`write_requests`].
    pub(crate) requests: &'a Path,
    /// The duration of the load, in seconds.
    pub(crate) seconds: u64,
    /// The cores of the load generator.
    pub(crate) cores: Cores,
}

impl Traffic {
    /// Whether the load generator is installed. `wrk` is not checked here: [`Generator::new`] panics without it.
    pub(crate) fn is_available(self) -> bool {
        self != Self::Http2 || is_installed("h2load")
    }
}

impl Generator {
    /// Writes the configuration of `wrk` to `folder`. Panics if `wrk` is not installed.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { wrk: wrk::Wrk::new(folder) }
    }

    /// Generates load for the duration of the task. Panics if the load generator prints no result.
    pub(crate) fn run(&self, task: &Task<'_>) -> Load {
        match task.traffic {
            Traffic::Full | Traffic::Tls => self.wrk.run(task),
            Traffic::Http2 => h2load::run(task),
            Traffic::FixedRate => fixed_rate::run(task),
        }
    }
}

/// Writes requests to a file for [`Generator::run`]: one line per request, with the path and the credential.
pub(crate) fn write_requests<'a>(file: &Path, requests: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let lines: Vec<String> = requests.into_iter().map(|(path, credential)| format!("{path} {credential}\n")).collect();
    std::fs::write(file, lines.concat()).unwrap();
}

/// Reads the path and the credential of each request from a file written by [`write_requests`].
fn read_requests(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let split = |line: &str| line.split_once(' ').map(|(path, credential)| (path.to_owned(), credential.to_owned()));
    text.lines().filter_map(split).collect()
}

/// Runs a load generator that prints a [`Load`] as one line of JSON. Panics if it does not.
fn run_command(mut command: std::process::Command) -> Load {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with('{'));
    line.and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("no result from {command:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
