//! `GET /keygate/v1/nodes` and `GET /keygate/v1/overview`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::admin_auth::serve;
use crate::nodes::Nodes;
use crate::support::keygate::{Keygate, command};
use crate::support::wait::wait_for;

async fn nodes(keygate: &Keygate) -> Vec<Value> {
    let response = keygate.send("GET /keygate/v1/nodes", "").await;
    assert_eq!((response.status, &response.body["is_complete"]), (200, &json!(true)), "{response:?}");
    response.body["nodes"].as_array().unwrap().clone()
}

fn ids(nodes: &[Value]) -> BTreeSet<String> {
    nodes.iter().map(|node| node["node_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn nodes_on_one_database_list_each_other_until_they_stop() {
    let mut installation = Nodes::start(3);
    let all = wait_for(async || match nodes(&installation.all[0]).await {
        all if all.len() == 3 => Ok(all),
        all => Err(format!("{all:?}")),
    })
    .await;
    for node in &all {
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(node["dependencies"]["database"], "ok");
        assert_eq!(node["dependencies"]["redis"], "ok");
        assert_eq!(node["dependencies"]["upstreams"], json!({"api": {"endpoints": 1, "available": 1}}));
        assert!(node["feed_age_seconds"].as_f64().unwrap() < 60.0 && node["heartbeat_time"].is_string(), "{node}");
    }
    assert_eq!(all.iter().filter(|node| node["is_this_node"] == true).count(), 1);
    for other in &installation.all[1..] {
        let others = wait_for(async || match nodes(other).await {
            others if others.len() == 3 => Ok(others),
            others => Err(format!("{others:?}")),
        });
        assert_eq!(ids(&others.await), ids(&all));
    }
    // A node that stops leaves; a node that is killed expires.
    let mut stopped = installation.all.pop().unwrap();
    stopped.whole_log();
    let mut killed = installation.all.pop().unwrap();
    killed.process.kill();
    wait_for(async || match nodes(&installation.all[0]).await.len() {
        1 => Ok(()),
        count => Err(format!("{count} nodes are listed")),
    })
    .await;
    wait_for(async || match installation.postgres.query("SELECT count(*) FROM nodes").as_deref() {
        Some("1") => Ok(()),
        count => Err(format!("{count:?} rows")),
    })
    .await;
}

#[tokio::test]
async fn single_node_lists_itself() {
    let keygate = serve(&json!({}));
    let listed = nodes(&keygate).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["is_this_node"], &listed[0]["dependencies"]["database"]), (&json!(true), &json!("ok")));
    for absent in ["heartbeat_time", "feed_age_seconds"] {
        assert!(listed[0].get(absent).is_none(), "{listed:?}");
    }
    let config = keygate.send("GET /keygate/v1/config", "").await;
    assert_eq!(config.body["node_id"], listed[0]["node_id"]);
    let (_, manager) = keygate.admin_key(json!({"roles": ["manage", "verify", "admin"]})).await;
    for operation in ["GET /keygate/v1/nodes", "GET /keygate/v1/overview"] {
        assert_eq!(keygate.send_as(&manager, operation, "").await.status, 403);
    }
}

#[tokio::test]
async fn list_without_the_database_has_this_node_only() {
    let installation = Nodes::start(1);
    let keygate = &installation.all[0];
    let Nodes { postgres, .. } = &installation;
    let _paused = postgres.pause();
    wait_for(async || {
        let response = keygate.send("GET /keygate/v1/nodes", "").await;
        let node = &response.body["nodes"][0];
        let is_alone = response.body["is_complete"] == false && node["dependencies"]["database"] == "unavailable";
        if response.status == 200 && is_alone { Ok(()) } else { Err(format!("{response:?}")) }
    })
    .await;
}

#[tokio::test]
async fn overview_counts_what_this_node_did() {
    let keygate = serve(&json!({}));
    let (id, secret) = keygate.issue(json!({})).await;
    for _ in 0..5 {
        keygate.call("/", &secret).await;
    }
    keygate.revoke(&id).await;
    for _ in 0..3 {
        assert_eq!(keygate.call("/", &secret).await.status(), 401);
    }
    let overview = wait_for(async || match keygate.send("GET /keygate/v1/overview", "").await.body["node"].take() {
        overview if overview["requests"]["total"] == 8.0 => Ok(overview),
        overview => Err(overview.to_string()),
    })
    .await;
    let refusals = overview["refusals"].as_array().unwrap();
    let revoked = refusals.iter().find(|refusal| refusal["code"] == "credential_revoked").unwrap();
    assert_eq!(revoked["total"], 3.0);
    assert!(overview["requests"]["per_second"].as_f64().unwrap() > 0.0, "{overview}");
    assert!(overview["decision_seconds"]["count"].as_u64().unwrap() >= 8, "{overview}");
    assert!(overview["decision_seconds"]["p50"].as_f64().unwrap() > 0.0, "{overview}");
    let lookups = overview["lookups"].as_object().unwrap();
    assert!(lookups["memory"]["total"].as_f64().unwrap() >= 4.0, "{overview}");
    assert!(overview.get("propagation_seconds").is_none(), "it is the only node: {overview}");
}

#[tokio::test]
async fn command_line_lists_nodes_and_keys_and_shows_the_overview() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({"name": "orders", "scopes": ["read"]})).await;
    keygate.import(json!({"name": "other", "raw_key": "raw-key-1"})).await;
    let run = |arguments: &[&str]| {
        let mut command = command();
        command.args(arguments).env("KEYGATE_ADMIN_KEY", &keygate.admin_key).env("KEYGATE_ENDPOINT", &keygate.admin);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let node = nodes(&keygate).await[0]["node_id"].as_str().unwrap().to_owned();
    let listed = run(&["nodes", "list"]);
    assert!(listed.contains(&node) && listed.contains("database: ok") && listed.contains("none: "), "{listed}");
    assert!(run(&["overview"]).contains("requests"));
    assert_eq!(
        run(&["keys", "list", "--quiet", "--name-prefix", "ord", "--status", "active", "--never-used"]),
        format!("{id}\n")
    );
    assert_eq!(run(&["keys", "list", "--quiet", "--all", "--page-size", "1"]).lines().count(), 2);
    assert_eq!(run(&["keys", "list", "--kind", "imported", "--format", "jsonpath=$.keys[*].name"]), "other\n");
}
