//! The overview of a node: rates, refusals, decision times, cache levels and propagation, from its metrics.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

use super::counts::Counts;
use super::histogram::Quantiles;

/// The overview of one node. Rates and quantiles are of the last `window_seconds`, totals of the time since its start.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Overview {
    window_seconds: f64,
    requests: Requests,
    /// Refused requests, the most frequent reason first.
    refusals: Vec<Refusals>,
    /// The time that a verification takes.
    decision_seconds: Quantiles,
    /// Verifications by where the key was found: `memory`, `shared`, `stale`, `database`, `none`.
    lookups: BTreeMap<String, Rate>,
    /// The time from the commit of a change of a key to its effect on this node. Absent if this is the only node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    propagation_seconds: Option<Quantiles>,
    /// The time since this node last had all changes of keys. Absent if this is the only node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    feed_age_seconds: Option<f64>,
    /// Whether the configuration is that of the file. Absent if it is not reloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    config: Option<ConfigState>,
}

/// The state of the configuration.
#[derive(Debug, Serialize, ToSchema)]
struct ConfigState {
    /// Whether the last reload succeeded. If not, the configuration of an earlier one is in effect.
    is_loaded: bool,
    /// When the configuration in effect was loaded, as a Unix time.
    load_time: f64,
    /// The number of changed settings that wait for a restart.
    restart_settings: f64,
}

/// A counter.
#[derive(Debug, Serialize, ToSchema)]
struct Rate {
    total: f64,
    per_second: f64,
}

/// Requests to the gateway and to external authorization.
#[derive(Debug, Serialize, ToSchema)]
struct Requests {
    #[serde(flatten)]
    rate: Rate,
    in_flight: f64,
}

/// Refused requests with one rejection code.
#[derive(Debug, Serialize, ToSchema)]
struct Refusals {
    code: String,
    #[serde(flatten)]
    rate: Rate,
}

impl Overview {
    /// The overview of the counters `counts` at `now`; `first` are those at the begin of the window.
    pub(super) fn new(now: Instant, counts: &Counts, (start, first): &(Instant, Counts)) -> Self {
        let window = now.saturating_duration_since(*start).as_secs_f64();
        let rate = |total: f64, before: f64| {
            let added = (total - before).max(0.0);
            Rate { total, per_second: if window > 0.0 { added / window } else { 0.0 } }
        };
        let rate_of = |counts: &BTreeMap<String, f64>, first: &BTreeMap<String, f64>| {
            let rate = |(name, total): (&String, &f64)| {
                (name.clone(), rate(*total, first.get(name).copied().unwrap_or_default()))
            };
            counts.iter().map(rate).collect::<BTreeMap<_, _>>()
        };
        let refusals = rate_of(&counts.refusals, &first.refusals).into_iter();
        let mut refusals: Vec<_> = refusals.map(|(code, rate)| Refusals { code, rate }).collect();
        refusals.sort_by(|a, b| b.rate.total.total_cmp(&a.rate.total));
        Self {
            window_seconds: window,
            requests: Requests { rate: rate(counts.requests, first.requests), in_flight: counts.in_flight },
            refusals,
            decision_seconds: counts.decisions.since(&first.decisions).quantiles(),
            lookups: rate_of(&counts.lookups, &first.lookups),
            propagation_seconds: counts.feed_age.map(|_| counts.propagation.since(&first.propagation).quantiles()),
            feed_age_seconds: counts.feed_age,
            config: counts.is_config_loaded.map(|is_loaded| ConfigState {
                is_loaded,
                load_time: counts.config_load_time.unwrap_or_default(),
                restart_settings: counts.restart_settings.unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_differences_within_the_window_and_refusals_are_sorted() {
        let counts = |requests, refusals: &[(&str, f64)]| Counts {
            requests,
            refusals: refusals.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect(),
            ..Counts::default()
        };
        let start = Instant::now();
        let first = (start, counts(100.0, &[("expired", 4.0)]));
        let now = counts(160.0, &[("expired", 10.0), ("revoked", 12.0)]);
        let overview = Overview::new(start + Duration::from_secs(6), &now, &first);
        let overview = serde_json::to_value(&overview).unwrap();
        assert_eq!(overview["requests"], serde_json::json!({"total": 160.0, "per_second": 10.0, "in_flight": 0.0}));
        let refusals = serde_json::json!([
            {"code": "revoked", "total": 12.0, "per_second": 2.0}, {"code": "expired", "total": 10.0, "per_second": 1.0}
        ]);
        assert_eq!(overview["refusals"], refusals);
        assert!(overview.get("propagation_seconds").is_none());
    }
}
