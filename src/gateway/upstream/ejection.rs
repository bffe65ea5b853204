//! Passive ejection: an endpoint that fails several times in a row gets no requests for some time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::endpoint::Endpoint;
use super::waiting::Waiting;
use crate::config::EjectionConfig;

/// Decides about the ejections of an upstream.
#[derive(Debug)]
pub(super) struct Ejector {
    config: EjectionConfig,
    /// The last ejection of each endpoint that was ejected, by its name. Locked only when an endpoint has failed.
    history: Mutex<HashMap<Arc<str>, Ejection>>,
}

/// An ejection that has ended, or will.
#[derive(Debug, Clone, Copy)]
struct Ejection {
    time: Duration,
    until: Instant,
}

impl Ejector {
    pub(super) fn new(config: &EjectionConfig) -> Self {
        Self { config: config.clone(), history: Mutex::default() }
    }

    /// Counts failures of an endpoint, the last of which is `fault`, and ejects it if there are too many. Ends the ejection in the background.
    pub(super) fn add_failure(
        &self,
        endpoints: &[Arc<Endpoint>],
        endpoint: &Arc<Endpoint>,
        (count, fault): (u32, &str),
        waiting: &Arc<Waiting>,
    ) {
        let failures = endpoint.add_failures(count);
        if endpoint.is_ejected() {
            return;
        }
        let Some(time) = self.try_eject(endpoints, endpoint, failures, Instant::now()) else { return };
        endpoint.series.ejections.inc();
        tracing::warn!(
            upstream = &*endpoint.upstream,
            endpoint = &*endpoint.name,
            failures,
            fault,
            "the endpoint is ejected for {} after {failures} consecutive failures",
            crate::duration::format_go(time)
        );
        let (endpoint, waiting) = (Arc::clone(endpoint), Arc::clone(waiting));
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            endpoint.end_ejection();
            waiting.notify();
            tracing::info!(
                upstream = &*endpoint.upstream,
                endpoint = &*endpoint.name,
                "the endpoint gets requests again after its ejection"
            );
        });
    }

    /// Ejects an endpoint unless too few would be left. Returns for how long.
    fn try_eject(
        &self,
        endpoints: &[Arc<Endpoint>],
        endpoint: &Arc<Endpoint>,
        failures: u32,
        now: Instant,
    ) -> Option<Duration> {
        let mut history = self.history.lock();
        let last = history.get(&endpoint.name).copied();
        // After its return, one failure is enough until it has been back as long as it was ejected.
        let last = last.filter(|last| now.saturating_duration_since(last.until) < last.time);
        let limit = if last.is_some() { 1 } else { self.config.consecutive_failures };
        if failures < limit || endpoint.is_ejected() || !self.leaves_enough(endpoints, endpoint) {
            return None;
        }
        let time = last.map_or(self.config.time.0, |last| last.time.saturating_mul(2).min(self.config.max_time.0));
        history.retain(|name, _| endpoints.iter().any(|endpoint| endpoint.name == *name));
        history.insert(Arc::clone(&endpoint.name), Ejection { time, until: now + time });
        endpoint.eject();
        Some(time)
    }

    /// Whether one more endpoint may be ejected: at most `max_percent` of all, and never the last one that is available.
    fn leaves_enough(&self, endpoints: &[Arc<Endpoint>], endpoint: &Arc<Endpoint>) -> bool {
        let ejected = endpoints.iter().filter(|endpoint| endpoint.is_ejected()).count() as u64;
        let is_within_share = (ejected + 1) * 100 <= endpoints.len() as u64 * u64::from(self.config.max_percent);
        let mut others = endpoints.iter().filter(|other| !Arc::ptr_eq(other, endpoint));
        is_within_share && others.any(|other| other.is_available())
    }
}
