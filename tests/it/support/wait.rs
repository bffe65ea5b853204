//! Waiting for a condition in asynchronous tests.

use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;

use super::keygate::Keygate;

/// Calls `check` every 20 ms until it returns `Ok`; panics with its last error after [`WAIT_TIMEOUT`].
pub(crate) async fn wait_for<T>(mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "timed out waiting: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the processors are at least half idle, so that other programs cause no delays.
pub(crate) async fn is_machine_quiet() -> bool {
    let ticks = || {
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        let ticks = text.lines().next().unwrap().split_whitespace().skip(1);
        let ticks: Vec<u64> = ticks.map(|ticks| ticks.parse().unwrap()).collect();
        (ticks[3], ticks[..8].iter().sum::<u64>())
    };
    let (idle_before, all_before) = ticks();
    // The load is measured over this time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (idle, all) = ticks();
    (idle - idle_before) * 2 > all - all_before
}

/// Waits until a metric that is a whole number has a value. `name` has its labels, as in the text format.
pub(crate) async fn wait_for_count(keygate: &Keygate, name: &str, wanted: u64) {
    wait_for(async || match keygate.count(name).await {
        Some(count) if count == wanted => Ok(()),
        count => Err(format!("{name} is {count:?}, not {wanted}")),
    })
    .await;
}
