//! What `/health/ready?verbose` lists: the dependencies and listeners of this process, each with its age.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::counts::Counts;
use super::status::Health;

/// A listener of this process.
#[derive(Debug, Clone)]
pub struct ListenerInfo {
    /// What it serves.
    pub name: &'static str,
    /// Its address, or the path of its socket.
    pub address: String,
}

/// The dependencies and listeners of this process.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Readiness {
    dependencies: Vec<DependencyState>,
    listeners: Vec<ListenerState>,
}

#[derive(Debug, Serialize)]
struct DependencyState {
    name: &'static str,
    status: Health,
    /// How long it has had this status; of the change feed, the time since this node last knew all changes.
    age_seconds: f64,
}

#[derive(Debug, Serialize)]
struct ListenerState {
    name: &'static str,
    address: String,
    /// How long it has been bound.
    age_seconds: f64,
}

/// Since when dependencies have their status.
#[derive(Debug, Default)]
pub(super) struct Ages(Mutex<BTreeMap<&'static str, (Health, Instant)>>);

impl Ages {
    /// Notes the status of a dependency, and returns how long it has had it in seconds.
    pub(super) fn note(&self, name: &'static str, status: Health, now: Instant) -> f64 {
        let mut known_states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, since) = known_states.entry(name).or_insert((status, now));
        if *known != status {
            (*known, *since) = (status, now);
        }
        now.saturating_duration_since(*since).as_secs_f64()
    }
}

impl Readiness {
    /// The state now. `is_database_up` says whether the database answers.
    pub(super) fn new(
        is_database_up: bool,
        counts: &Counts,
        ages: &Ages,
        listeners: &[ListenerInfo],
        (bound, now): (Instant, Instant),
    ) -> Self {
        let state = |name, is_up| {
            let status = Health::of(is_up);
            DependencyState { name, status, age_seconds: ages.note(name, status, now) }
        };
        let mut dependencies = vec![state("database", is_database_up)];
        dependencies.extend(counts.feed_age.map(|age_seconds| DependencyState {
            name: "change_feed",
            status: Health::of(is_database_up),
            age_seconds,
        }));
        dependencies.extend(counts.is_redis_connected.map(|is_up| state("redis", is_up)));
        let age_seconds = now.saturating_duration_since(bound).as_secs_f64();
        let listeners = listeners.iter().map(|ListenerInfo { name, address }| ListenerState {
            name,
            address: address.clone(),
            age_seconds,
        });
        Self { dependencies, listeners: listeners.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn age_is_that_of_the_status() {
        let (ages, start) = (Ages::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let noted =
            [(Health::Ok, 0), (Health::Ok, 5), (Health::Unavailable, 7), (Health::Unavailable, 10), (Health::Ok, 11)];
        let shown = noted.map(|(status, seconds)| ages.note("database", status, at(seconds)));
        assert_eq!(format!("{shown:?}"), "[0.0, 5.0, 0.0, 3.0, 0.0]");
        assert_eq!(format!("{}", ages.note("redis", Health::Ok, at(20))), "0");
    }
}
