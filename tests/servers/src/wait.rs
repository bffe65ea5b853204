//! Waiting for a condition, and free ports.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long tests wait for something that has to happen. It only bounds a hang, so a busy machine must not reach it.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// Checks a condition every 20 ms until it holds; panics after [`WAIT_TIMEOUT`]. Blocks the thread.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port on loopback that is free now.
///
/// It is below the range of ephemeral ports, each test process starts at another one, and takes only ports that no other one has taken: so no
/// other process takes the port before its user binds it, or while its user is restarted.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok() && take(*port);
    let next = || std::process::id().wrapping_mul(16).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
    let ports = std::iter::repeat_with(|| u16::try_from(10_000 + next()).expect("below 30 000"));
    ports.into_iter().find(is_free).expect("the iterator does not end")
}

/// Takes a port for this process: a file has the id of the process that has the port. `false` if that process still runs.
fn take(port: u16) -> bool {
    let folder = std::env::temp_dir().join("keygate-test-ports");
    std::fs::create_dir_all(&folder).expect("the folder of ports is created");
    let file = folder.join(port.to_string());
    let owner = std::fs::read_to_string(&file).unwrap_or_default();
    if !owner.is_empty() && std::path::Path::new("/proc").join(owner).exists() {
        return false;
    }
    // Two processes that find the same file remove it at most once each, and one of them creates it.
    let _ = std::fs::remove_file(&file);
    let taken = std::fs::File::create_new(&file);
    taken.is_ok_and(|mut file| file.write_all(std::process::id().to_string().as_bytes()).is_ok())
}
