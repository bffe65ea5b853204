//! Ends requests whose body arrives too slowly. HTTP/2 streams have no read timeout of their own.

use std::time::Duration;

use crate::config::ListenerLimits;
use crate::gateway::request_state::Progress;

/// Runs a request until it ends, or until its body has not arrived at the lowest rate for the idle time. Nothing is limited once the
/// response has begun: the client may send while it receives.
pub(super) async fn with_body_limit(request: impl Future<Output = ()>, progress: &Progress, limits: &ListenerLimits) {
    let idle = limits.body_idle_timeout.0;
    let mut request = std::pin::pin!(request);
    let mut received = 0;
    loop {
        if tokio::time::timeout(idle, request.as_mut()).await.is_ok() {
            return;
        }
        let Some(bytes) = progress.awaited_body() else { return request.await };
        if bytes - received < least(limits.body_rate, idle) {
            // The stream is reset when the request is dropped.
            return progress.set_timed_out();
        }
        received = bytes;
    }
}

/// How many bytes must arrive in a time; at least one.
fn least(rate: u32, time: Duration) -> u64 {
    (u64::from(rate) * time.as_secs()).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Whether a request is given up whose body arrives in parts of these sizes, one each second, and is then answered or not.
    async fn is_given_up(parts: &[usize], is_answered: bool) -> bool {
        let progress = Arc::new(Progress::default());
        let limits = ListenerLimits {
            body_idle_timeout: crate::duration::ConfigDuration(Duration::from_secs(4)),
            body_rate: 10,
            ..ListenerLimits::default()
        };
        let request = async {
            for part in parts {
                tokio::time::sleep(Duration::from_secs(1)).await;
                progress.add_body(*part, false);
            }
            if is_answered {
                progress.set_answered();
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        };
        with_body_limit(request, &progress, &limits).await;
        progress.is_timed_out()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_is_given_up() {
        assert!(is_given_up(&[], false).await);
        assert!(is_given_up(&[9; 20], false).await);
        assert!(is_given_up(&[10; 20], false).await, "nothing arrives after 20 seconds");
        assert!(!is_given_up(&[10; 20], true).await);
        assert!(!is_given_up(&[], true).await);
    }
}
