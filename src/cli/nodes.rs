//! `keygate nodes` and `keygate overview`: the nodes of an installation, and what one of them does.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Call;
use super::connection::Connection;
use super::output::{Columns, Output};

const NODES: &str = "/keygate/v1/nodes";
const OVERVIEW: &str = "/keygate/v1/overview";
const NODE: &Columns = &[
    ("NODE ID", "node_id"),
    ("VERSION", "version"),
    ("STARTED", "start_time"),
    ("HEARTBEAT", "heartbeat_time"),
    ("FEED AGE", "feed_age_seconds"),
    ("DEPENDENCIES", "dependencies"),
];
const VALUE: &Columns = &[("VALUE", "name"), ("TOTAL", "total"), ("PER SECOND", "per_second")];

/// `keygate nodes`.
#[derive(Debug, Args)]
pub(super) struct Nodes {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: NodesCommand,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// List the nodes that share the database, with their version and the health of their dependencies
    List,
}

/// `keygate overview`.
#[derive(Debug, Args)]
pub(super) struct OverviewArgs {
    #[command(flatten)]
    output: Output,
}

impl Nodes {
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<()> {
        let NodesCommand::List = &self.command;
        let response = connection.open()?.send(Call::get(NODES)).context("list nodes")?;
        if response["is_complete"] == false {
            eprintln!("The list is not complete: the database is unavailable");
        }
        let rows: Vec<Value> = response["nodes"].as_array().into_iter().flatten().map(row).collect();
        self.output.list(&response, &rows, NODE)
    }
}

/// A node as a row: the dependencies as `name: state`.
fn row(node: &Value) -> Value {
    let dependencies = &node["dependencies"];
    let state = |(name, state): (&String, &Value)| {
        if let Some(state) = state.as_str() {
            vec![format!("{name}: {state}")]
        } else {
            let upstreams = state.as_object().into_iter().flatten();
            let upstream =
                |(name, state): (&String, &Value)| format!("{name}: {} of {}", state["available"], state["endpoints"]);
            upstreams.map(upstream).collect()
        }
    };
    let mut row = node.clone();
    row["dependencies"] = dependencies.as_object().into_iter().flatten().flat_map(state).collect::<Vec<_>>().into();
    row
}

impl OverviewArgs {
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<()> {
        let response = connection.open()?.send(Call::get(OVERVIEW)).context("overview")?;
        let node = &response["node"];
        let named = |name: String, rate: &Value| json!({ "name": name, "total": rate["total"], "per_second": rate["per_second"] });
        let mut rows = vec![named("requests".into(), &node["requests"])];
        let refusals = node["refusals"].as_array().into_iter().flatten();
        rows.extend(
            refusals
                .map(|refusal| named(format!("refused: {}", refusal["code"].as_str().unwrap_or_default()), refusal)),
        );
        let lookups = node["lookups"].as_object().into_iter().flatten();
        rows.extend(lookups.map(|(level, rate)| named(format!("found in: {level}"), rate)));
        for (name, member) in [("decision", "decision_seconds"), ("propagation", "propagation_seconds")] {
            if let Some(p99) = node[member]["p99"].as_f64() {
                eprintln!(
                    "{name} time, 99th percentile of the last {:.0} s: {:.3} ms",
                    node["window_seconds"].as_f64().unwrap_or_default(),
                    p99 * 1000.0
                );
            }
        }
        self.output.list(&response, &rows, VALUE)
    }
}
