//! Instances are restarted one after the other under load.

use reqwest::Method;
use serde_json::json;

use super::load::Load;
use super::nginx::Nginx;
use super::start_with;

async fn roll(method: Method) {
    let Some(mut instances) = (0..3).map(|_| Nginx::start("")).collect::<Option<Vec<_>>>() else { return };
    let urls: Vec<_> = instances.iter().map(Nginx::url).collect();
    let settings = json!({"ejection": {"time": "200ms"}, "retries": {"non_idempotent": "unanswered", "attempts": 2}});
    let keygate = start_with(&urls, &settings);
    let load = Load::start(&keygate, &method, 8);
    for instance in &mut instances {
        load.goes_on(200).await;
        instance.kill();
        load.goes_on(200).await;
        instance.start_again();
    }
    load.goes_on(200).await;
    let statuses = load.stop().await;
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{method} {statuses:?}");
}

#[tokio::test]
async fn no_get_fails_in_a_rolling_restart() {
    roll(Method::GET).await;
}

#[tokio::test]
async fn no_post_fails_in_a_rolling_restart_if_unanswered_ones_are_sent_again() {
    roll(Method::POST).await;
}
