//! Failed attempts are slowed by address.

use std::time::{Duration, Instant};

use serde_json::json;

use super::serve;

const LIST: &str = "GET /v2alpha1/admin/issuedApiKeys";

#[tokio::test]
async fn repeated_invalid_keys_are_answered_late_and_valid_ones_are_not() {
    let keygate = serve(&json!({}));
    let metric = r#"keygate_auth_failures_throttled_total{action="delayed"}"#;
    let mut delayed = Duration::ZERO;
    for attempt in 0.. {
        assert!(attempt < 100, "no response was delayed");
        let started = Instant::now();
        let response = keygate.send_as(&format!("guess-{attempt}"), LIST, "").await;
        assert_eq!(response.status, 401);
        if keygate.count(metric).await.unwrap() > 0 {
            delayed = started.elapsed();
            break;
        }
    }
    assert!(delayed >= Duration::from_secs(1), "{delayed:?}");
    let before = keygate.count(metric).await;
    assert_eq!(keygate.send(LIST, "").await.status, 200);
    assert_eq!(keygate.send_as("", LIST, "").await.status, 401);
    assert_eq!(keygate.count(metric).await, before, "only presented keys are counted");
}
