//! What tests start and stop: Keygate itself, upstreams that record, servers that are thrown away.

pub(crate) mod admin;
pub(crate) mod keygate;
pub(crate) mod process;
pub(crate) mod servers;
pub(crate) mod upstream;

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
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
