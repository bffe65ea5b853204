//! Waiting for what comes by itself, and ports to wait at.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Asks again until the answer is yes; panics after ten seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that nobody listens on now.
///
/// From below the range that connections take theirs from, and for every test process another stretch of it: between this
/// answer and its use nobody else is to get the port.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let next = || std::process::id().wrapping_mul(16).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
    std::iter::repeat_with(|| 10_000 + u16::try_from(next()).unwrap()).find(free).unwrap()
}
