//! Addresses that repeatedly present rejected credentials.

use std::time::Instant;

use reqwest::{Response, StatusCode};
use serde_json::json;

use super::{SECOND, start};
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;

/// A token that is well-formed and was not signed by this installation.
const FORGED: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImEiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2tleXMuZXhhbXBsZS5jb20iLCJzdWIiOiJhIiwiZXhwIjo0MTAyNDQ0ODAwfQ.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

async fn call(keygate: &Keygate, key: &str) -> Response {
    keygate.http.get(format!("{}/", keygate.gateway)).bearer_auth(key).send().await.unwrap()
}

/// Presents forged tokens until the limit is reached.
async fn exhaust(keygate: &Keygate, burst: usize) {
    for _ in 0..burst {
        assert_eq!(call(keygate, FORGED).await.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn rejected_address_gets_429_and_credentials_that_were_verified_before_pass() {
    let upstream = Upstream::start();
    let failures =
        json!({"auth_failures": {"mode": "reject", "burst": 5, "per_second": 1}, "unknown_keys": {"burst": 1}});
    let keygate = start(&upstream.url, &json!({}), &failures);
    let (_, cached) = keygate.issue(json!({})).await;
    let (_, uncached) = keygate.issue(json!({})).await;
    assert_eq!(call(&keygate, &cached).await.status(), StatusCode::OK);
    exhaust(&keygate, 5).await;
    let rejected = call(&keygate, FORGED).await;
    assert_eq!(rejected.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rejected.headers()["retry-after"], "1");
    let body: serde_json::Value = rejected.json().await.unwrap();
    assert_eq!(body["code"], "auth_failures_exceeded");
    assert_eq!(call(&keygate, &cached).await.status(), StatusCode::OK);
    let rejected = keygate.count(r#"keygate_auth_failures_throttled_total{action="rejected"}"#).await;
    assert_eq!(rejected, Some(1));
    // A credential that this process has not verified passes once the bucket is refilled, at the latest.
    crate::support::wait::wait_for(async || match call(&keygate, &uncached).await.status() {
        StatusCode::OK => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
}

#[tokio::test]
async fn responses_to_forged_tokens_are_delayed_and_valid_keys_are_not() {
    let upstream = Upstream::start();
    let failures = json!({"auth_failures": {"mode": "delay", "burst": 5, "per_second": 1, "delay": "2s"}});
    let keygate = start(&upstream.url, &json!({}), &failures);
    let (_, secret) = keygate.issue(json!({})).await;
    exhaust(&keygate, 5).await;
    let started = Instant::now();
    let delayed = async {
        // The bucket gets one token a second, so one of two responses is delayed at least.
        let (first, second) = tokio::join!(call(&keygate, FORGED), call(&keygate, FORGED));
        assert_eq!([first.status(), second.status()], [StatusCode::UNAUTHORIZED; 2]);
        started.elapsed()
    };
    let valid = async {
        assert_eq!(call(&keygate, &secret).await.status(), StatusCode::OK);
        started.elapsed()
    };
    let (delayed, valid) = tokio::join!(delayed, valid);
    assert!(delayed >= 2 * SECOND && valid < delayed, "{delayed:?} {valid:?}");
    assert!(keygate.count(r#"keygate_auth_failures_throttled_total{action="delayed"}"#).await >= Some(1));
}
