//! The first page: what this node does, and the state of all nodes.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use crate::admin::console::failure::Failure;
use crate::admin::console::number::{count, milliseconds};
use crate::admin::console::page::{Page, Section, html};
use crate::admin::console::signed_in::SignedIn;
use crate::admin::console::time::{Moment, span};
use crate::clock::Timestamp;

/// The width of the bars of shares.
const BAR: f64 = 200.0;

#[derive(Template)]
#[template(path = "console/overview.html")]
struct OverviewPage {
    page: Page,
    /// `None` if the caller may not read it.
    figures: Option<Figures>,
}

/// The figures of this node and the list of nodes.
struct Figures {
    node: Overview,
    refusals: Vec<Share>,
    lookups: Vec<Share>,
    top: TopKeys,
    nodes: Vec<NodeRow>,
    /// Whether all nodes are listed.
    is_complete: bool,
}

#[derive(Deserialize)]
struct OverviewResponse {
    node: Overview,
}

#[derive(Deserialize)]
struct Overview {
    window_seconds: f64,
    requests: Requests,
    refusals: Vec<Refusals>,
    decision_seconds: Quantiles,
    lookups: BTreeMap<String, Rate>,
    propagation_seconds: Option<Quantiles>,
    feed_age_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct Requests {
    total: f64,
    per_second: f64,
    in_flight: f64,
}

#[derive(Deserialize)]
struct Rate {
    total: f64,
    per_second: f64,
}

#[derive(Deserialize)]
struct Refusals {
    code: String,
    total: f64,
    per_second: f64,
}

#[derive(Deserialize)]
struct Quantiles {
    count: u64,
    p50: Option<f64>,
    p99: Option<f64>,
}

/// The keys with the most requests.
#[derive(Default, Deserialize)]
struct TopKeys {
    keys: Vec<TopKey>,
    refused_keys: Vec<TopKey>,
}

#[derive(Deserialize)]
struct TopKey {
    key_id: String,
    name: String,
    actor_id: String,
    requests: u64,
}

#[derive(Deserialize)]
struct ListNodes {
    nodes: Vec<Node>,
    is_complete: bool,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "node_id")]
    id: String,
    #[serde(rename = "is_this_node")]
    is_this: bool,
    heartbeat_time: Option<Timestamp>,
    version: String,
    start_time: Timestamp,
    config_hash: String,
    feed_age_seconds: Option<f64>,
    dependencies: Dependencies,
}

#[derive(Deserialize)]
struct Dependencies {
    database: String,
    redis: Option<String>,
    #[serde(default)]
    upstreams: BTreeMap<String, Endpoints>,
}

#[derive(Deserialize)]
struct Endpoints {
    endpoints: u64,
    available: u64,
}

/// A part of a sum, with the length of its bar.
struct Share {
    name: String,
    count: String,
    rate: String,
    length: String,
}

/// A node in the list.
struct NodeRow {
    node: Node,
    started: Moment,
    heartbeat: Option<Moment>,
    /// Whether its configuration is that of the first node.
    is_same: bool,
    dependencies: Vec<Dependency>,
}

/// A server that a node needs.
struct Dependency {
    name: String,
    state: String,
    is_ok: bool,
}

/// Shows the page.
pub(super) async fn show(who: SignedIn) -> Result<Response, Failure> {
    let page = who.page(Section::Overview, "Overview");
    if !who.caller.can_read() {
        return Ok(html(&OverviewPage { page, figures: None }));
    }
    let (overview, nodes, top) = tokio::join!(
        who.api.get("/keygate/v1/overview"),
        who.api.get("/keygate/v1/nodes"),
        who.api.get::<TopKeys>("/keygate/v1/topKeys")
    );
    // While the database does not answer, the figures of this node are known all the same.
    let top = top.unwrap_or_default();
    let OverviewResponse { node } = overview?;
    let ListNodes { nodes, is_complete } = nodes?;
    let hash = nodes.first().map(|node| node.config_hash.clone());
    let rows = nodes.into_iter().map(|node| NodeRow::new(node, hash.as_deref(), who.now)).collect();
    let refusals = node.refusals.iter().map(|refusal| (refusal.code.as_str(), refusal.total, refusal.per_second));
    let lookups = node.lookups.iter().map(|(level, rate)| (level_name(level), rate.total, rate.per_second));
    let (refusals, lookups) = (shares(refusals), shares(lookups));
    let figures = Figures { refusals, lookups, top, nodes: rows, is_complete, node };
    Ok(html(&OverviewPage { page, figures: Some(figures) }))
}

/// The parts of a sum.
fn shares<'a>(parts: impl Iterator<Item = (&'a str, f64, f64)>) -> Vec<Share> {
    let parts: Vec<_> = parts.filter(|(_, total, _)| *total > 0.0).collect();
    let sum: f64 = parts.iter().map(|(_, total, _)| total).sum();
    let share = |(name, total, rate): &(&str, f64, f64)| Share {
        name: (*name).to_owned(),
        count: whole(*total),
        rate: format!("{rate:.1}"),
        length: format!("{:.0}", (BAR * total / sum).max(2.0)),
    };
    parts.iter().map(share).collect()
}

/// Where a key was found, in words.
fn level_name(level: &str) -> &str {
    match level {
        "memory" => "Memory of this node",
        "shared" => "Redis",
        "stale" => "An older copy, because the database did not answer",
        "database" => "Database",
        "none" => "Nowhere",
        other => other,
    }
}

/// A counter of the metrics, which is a whole number.
fn whole(number: f64) -> String {
    format!("{number:.0}").parse().map_or_else(|_| "–".to_owned(), count)
}

impl Figures {
    fn total(&self) -> String {
        whole(self.node.requests.total)
    }

    fn rate(&self) -> String {
        format!("{:.1}", self.node.requests.per_second)
    }

    fn in_flight(&self) -> String {
        whole(self.node.requests.in_flight)
    }

    fn window(&self) -> String {
        format!("{:.0}", self.node.window_seconds)
    }

    fn refused(&self) -> String {
        whole(self.node.refusals.iter().map(|refusal| refusal.total).sum())
    }

    fn refused_rate(&self) -> String {
        let rate: f64 = self.node.refusals.iter().map(|refusal| refusal.per_second).sum();
        format!("{rate:.1}")
    }

    fn p50(&self) -> String {
        milliseconds(self.node.decision_seconds.p50)
    }

    fn p99(&self) -> String {
        milliseconds(self.node.decision_seconds.p99)
    }

    fn propagation(&self) -> Option<String> {
        self.node.propagation_seconds.as_ref().filter(|times| times.count > 0).map(|times| milliseconds(times.p99))
    }

    fn feed_age(&self) -> Option<String> {
        self.node.feed_age_seconds.map(|age| format!("{age:.1} s"))
    }
}

impl NodeRow {
    fn new(node: Node, hash: Option<&str>, now: Timestamp) -> Self {
        let mut dependencies = vec![Dependency::of("Database", &node.dependencies.database)];
        dependencies.extend(node.dependencies.redis.iter().map(|state| Dependency::of("Redis", state)));
        dependencies.extend(node.dependencies.upstreams.iter().map(|(name, endpoints)| Dependency {
            name: name.clone(),
            state: format!("{} of {} available", endpoints.available, endpoints.endpoints),
            is_ok: endpoints.available == endpoints.endpoints,
        }));
        Self {
            started: Moment::new(node.start_time, now),
            heartbeat: node.heartbeat_time.map(|time| Moment::new(time, now)),
            is_same: hash == Some(node.config_hash.as_str()),
            dependencies,
            node,
        }
    }

    /// The begin of the hash of its configuration.
    fn hash(&self) -> &str {
        self.node.config_hash.get(..12).unwrap_or(&self.node.config_hash)
    }

    /// How long ago the node had all changes of keys.
    fn lag(&self) -> Option<String> {
        self.node.feed_age_seconds.map(|age| {
            let seconds = format!("{age:.0}").parse().unwrap_or_default();
            if seconds == 0 { "up to date".to_owned() } else { format!("{} behind", span(seconds)) }
        })
    }
}

impl TopKey {
    fn count(&self) -> String {
        count(self.requests)
    }
}

impl Dependency {
    fn of(name: &str, state: &str) -> Self {
        Self { name: name.to_owned(), state: state.to_owned(), is_ok: state == "ok" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_bars_of_their_part() {
        let shares = shares([("a", 75.0, 1.5), ("none", 0.0, 0.0), ("b", 25.0, 0.0)].into_iter());
        assert_eq!((whole(81_210.0), shares[0].count.as_str()), ("81,210".into(), "75"));
        let bars: Vec<_> = shares.iter().map(|share| (share.name.as_str(), share.length.as_str())).collect();
        assert_eq!(bars, [("a", "150"), ("b", "50")]);
    }
}
