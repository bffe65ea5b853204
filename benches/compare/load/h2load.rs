//! Runs `h2load`, which sends requests over HTTP/2 in clear text with prior knowledge.

use std::path::Path;

use super::{Load, Task, read_requests};

/// The number of connections.
const CONNECTIONS: usize = 4;
/// The number of requests in flight on each connection.
const STREAMS: usize = 8;

/// Sends the first request of the file repeatedly.
pub(super) fn run(task: &Task<'_>) -> Load {
    let (path, credential) = read_requests(task.requests).swap_remove(0);
    let mut command = task.cores.command(Path::new("h2load"));
    command
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-m{STREAMS}"), &format!("-D{}", task.seconds)])
        .args(["-H", &format!("authorization: Bearer {credential}")])
        .arg(format!("http://{}{path}", task.address));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text, task.seconds)
        .unwrap_or_else(|| panic!("no result from {command:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Parses the output of `h2load`. Returns `None` if one of these lines is missing or malformed:
///
/// ```text
/// requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout
/// status codes: 9 2xx, 0 3xx, 0 4xx, 0 5xx
/// ```
///
/// `h2load` prints no percentiles of the latency.
fn parse(text: &str, seconds: u64) -> Option<Load> {
    let count = |prefix: &str, suffix: &str| -> Option<u64> {
        let counts = text.lines().find_map(|line| line.strip_prefix(prefix))?;
        let number = counts.split(", ").find_map(|count| count.trim().strip_suffix(suffix))?;
        number.trim().parse().ok()
    };
    let status = |class: &str| count("status codes:", class);
    let refused = status("4xx")? + status("5xx")?;
    Some(Load {
        requests: status("2xx")? + status("3xx")? + refused,
        micros: seconds * 1_000_000,
        p50_micros: None,
        p99_micros: None,
        refused,
        broken: count("requests:", "errored")? + count("requests:", "timeout")?,
    })
}
