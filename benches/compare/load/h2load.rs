//! `h2load`: HTTP/2 in clear text with prior knowledge.

use std::path::Path;

use super::{Load, Task, read_requests};

const CONNECTIONS: usize = 4;
/// Requests in flight on each connection.
const STREAMS: usize = 8;

pub(super) fn run(task: &Task<'_>) -> Load {
    let (path, credential) = read_requests(task.requests).swap_remove(0);
    let mut command = task.cores.command(Path::new("h2load"));
    command
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-m{STREAMS}"), &format!("-D{}", task.seconds)])
        .args(["-H", &format!("authorization: Bearer {credential}")])
        .arg(format!("http://{}{path}", task.address));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text, task.seconds)
        .unwrap_or_else(|| panic!("{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Reads two lines: `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`, and
/// `status codes: 9 2xx, 0 3xx, 0 4xx, 0 5xx`. It prints no percentiles.
fn read(text: &str, seconds: u64) -> Option<Load> {
    let count = |line: &str, what: &str| -> Option<u64> {
        let numbers = text.lines().find_map(|text| text.strip_prefix(line))?;
        let number = numbers.split(", ").find_map(|number| number.trim().strip_suffix(what))?;
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
