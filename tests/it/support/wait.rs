//! Waiting for a condition in asynchronous tests.

use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;

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
