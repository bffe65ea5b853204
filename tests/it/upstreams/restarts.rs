//! Instances are restarted one after the other under load, with the default number of retries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::instance::{Instance, Reply};
use super::load::{Answers, Load};
use super::nginx::Nginx;
use super::{endpoint_metric, start_with};
use crate::support::keygate::Keygate;

/// How an instance ends before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Graceful,
}

/// What a rolling restart of three instances of nginx has left.
struct Rolled {
    keygate: Keygate,
    instances: Vec<Nginx>,
    answers: Answers,
    folder: TempDir,
}

/// The setting `retries` of a test.
fn retries(non_idempotent: &str) -> Value {
    json!({"retries": {"non_idempotent": non_idempotent}})
}

/// Restarts the instances one after the other while callers send requests. `None` without nginx.
async fn roll(method: &Method, settings: &Value, end: End) -> Option<Rolled> {
    let folder = TempDir::new().unwrap();
    let start = |number: usize| {
        let log = format!("access_log {}/{number};", folder.path().display());
        if end == End::Graceful { Nginx::with_worker(&log) } else { Nginx::start(&log) }
    };
    let mut instances = (0..3).map(start).collect::<Option<Vec<_>>>()?;
    let urls: Vec<_> = instances.iter().map(Nginx::url).collect();
    let keygate = start_with(&urls, settings);
    let load = Load::start(&keygate, method, 8);
    for instance in &mut instances {
        load.goes_on(200).await;
        match end {
            End::Killed => instance.kill(),
            End::Graceful => instance.quit(),
        }
        load.goes_on(200).await;
        instance.start_again();
    }
    load.goes_on(200).await;
    Some(Rolled { answers: load.stop_with_answers().await, keygate, instances, folder })
}

/// Checks that no request fails, with all defaults and with instances that get requests again at once.
async fn all_succeed(method: Method, settings: Value, end: End) {
    for ejection in [json!({}), json!({"time": "200ms"})] {
        let mut settings = settings.clone();
        settings["ejection"] = ejection;
        let Some(rolled) = roll(&method, &settings, end).await else { return };
        let statuses = rolled.answers.statuses;
        assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{method} {end:?} {settings} {statuses:?}");
    }
}

// A test of its own each: the ports of a test process are limited, and another one could take that of an instance that is down.

#[tokio::test]
async fn no_get_fails_while_instances_are_killed_one_after_the_other() {
    all_succeed(Method::GET, json!({}), End::Killed).await;
}

#[tokio::test]
async fn no_get_fails_in_a_graceful_rolling_restart() {
    all_succeed(Method::GET, json!({}), End::Graceful).await;
}

#[tokio::test]
async fn no_post_fails_while_instances_are_killed_if_unanswered_ones_are_sent_again() {
    all_succeed(Method::POST, retries("unanswered"), End::Killed).await;
}

#[tokio::test]
async fn no_post_fails_in_a_graceful_rolling_restart_if_unanswered_ones_are_sent_again() {
    all_succeed(Method::POST, retries("unanswered"), End::Graceful).await;
}

/// How often each path is in the logs of nginx.
fn logged(folder: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for number in 0..3 {
        let log = std::fs::read_to_string(folder.join(number.to_string())).unwrap();
        for line in log.lines() {
            let path = line.split(' ').skip_while(|word| *word != "\"POST").nth(1);
            *counts.entry(path.unwrap_or(line).to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[tokio::test]
async fn post_that_fails_in_a_rolling_restart_was_sent_and_none_is_sent_twice() {
    for end in [End::Killed, End::Graceful] {
        let Some(rolled) = roll(&Method::POST, &json!({"ejection": {"time": "200ms"}}), end).await else { return };
        let Rolled { keygate, instances, answers, folder } = rolled;
        let (failed, statuses) = (answers.failed.len() as u64, &answers.statuses);
        assert!(statuses.keys().all(|status| [200, 502].contains(status)), "{end:?} {statuses:?}");
        let (mut reset, mut retried) = (0, 0);
        for instance in &instances {
            let outcome = r#"outcome="reset","#;
            reset += endpoint_metric(&keygate, "keygate_upstream_requests_total", &instance.url(), outcome).await;
            retried += endpoint_metric(&keygate, "keygate_upstream_retries_total", &instance.url(), "").await;
        }
        // A request fails only if its instance may have got it. One whose connection was reset before that was sent to another instance.
        assert!(failed <= reset && reset <= failed + retried, "{end:?} {statuses:?}: {reset} reset, {retried} retried");
        let repeated: Vec<_> = logged(folder.path()).into_iter().filter(|(_, count)| *count > 1).collect();
        assert_eq!(repeated, [], "{end:?}");
    }
}

#[tokio::test]
async fn each_post_that_fails_was_delivered_once() {
    // The number of the instance that closes connections without a response; it records what it has received.
    let ending = Arc::new(AtomicUsize::new(usize::MAX));
    let instances: Vec<_> = (0..3)
        .map(|number| {
            let ending = Arc::clone(&ending);
            Instance::start(move |_| match ending.load(Ordering::SeqCst) {
                ending if ending == number => Reply::Close,
                _ => Reply::Status(200),
            })
        })
        .collect();
    let urls: Vec<_> = instances.iter().map(|instance| instance.url.clone()).collect();
    let keygate = start_with(&urls, &json!({"ejection": {"time": "200ms"}}));
    let load = Load::start(&keygate, &Method::POST, 8);
    for number in 0..3 {
        load.goes_on(100).await;
        ending.store(number, Ordering::SeqCst);
        load.goes_on(100).await;
        ending.store(usize::MAX, Ordering::SeqCst);
    }
    load.goes_on(100).await;
    let Answers { statuses, failed } = load.stop_with_answers().await;
    assert!(failed.len() >= 3, "{statuses:?}");
    let received = instances.iter().flat_map(Instance::received);
    let mut paths = BTreeSet::new();
    let mut unanswered = BTreeSet::new();
    for request in received {
        assert!(paths.insert(request.path.clone()), "{} was sent twice", request.path);
        if request.reply == Reply::Close {
            unanswered.insert(request.path);
        }
    }
    assert_eq!(failed.into_iter().collect::<BTreeSet<_>>(), unanswered);
}
