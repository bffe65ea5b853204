//! Several nodes on one PostgreSQL and one Redis: a change on one takes effect on all.

use keygate_test_servers::{Postgres, Redis};
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, merge};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// Nodes with the servers that they share.
pub(crate) struct Nodes {
    pub(crate) all: Vec<Keygate>,
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
}

impl Nodes {
    /// Starts `count` nodes with a new PostgreSQL and Redis; all forward to one upstream.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, &json!({}))
    }

    /// The same, with more settings.
    pub(crate) fn start_with(count: usize, more: &Value) -> Self {
        let (postgres, redis, upstream) = (Postgres::start(), Redis::start(), Upstream::start());
        let gateway = json!({
            "routes": [{"name": "api", "path_prefix": "/", "upstream": "api"}],
            "upstreams": {"api": {"endpoints": [upstream.url]}},
        });
        let mut settings = json!({
            "db": {"dsn": format!("{}?acquire_timeout=10s", postgres.url("postgres")), "auto_migrate": true},
            "cache": {"type": "redis", "redis": {"addrs": [redis.address()]}},
        });
        merge(&mut settings, more);
        let all = (0..count).map(|_| Keygate::serve(&gateway, &settings)).collect();
        Self { all, postgres, redis }
    }

    /// The status of a request with the key on each node.
    async fn statuses(&self, key: &str) -> Vec<u16> {
        let mut statuses = Vec::new();
        for node in &self.all {
            statuses.push(node.call("/", key).await.status().as_u16());
        }
        statuses
    }

    /// Waits until every node answers with `status`.
    async fn all_answer(&self, key: &str, status: u16) {
        wait_for(async || {
            let statuses = self.statuses(key).await;
            let is_done = statuses.iter().all(|actual| *actual == status);
            if is_done { Ok(()) } else { Err(format!("{statuses:?} instead of {status}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn change_on_one_node_takes_effect_on_all() {
    let nodes = Nodes::start(3);
    let [first, second, third] = &nodes.all[..] else { unreachable!() };
    let (id, key) = first.issue(json!({})).await;
    assert_eq!(nodes.statuses(&key).await, [200; 3]);

    // Updated on one, rotated on another, revoked on a third.
    let path = format!("/v2alpha1/admin/issuedApiKeys/{id}?update_mask=ip_restriction");
    let restriction = json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}});
    assert_eq!(second.send_json(&format!("PATCH {path}"), &restriction).await.status, 200);
    nodes.all_answer(&key, 403).await;
    assert_eq!(third.send_json(&format!("PATCH {path}"), &json!({})).await.status, 200);
    nodes.all_answer(&key, 200).await;
    let rotated: Value = second.post(&format!("issuedApiKeys/{id}:rotate"), &json!({})).await.json().await.unwrap();
    nodes.all_answer(&key, 401).await;
    let (id, key) = (rotated["issued_api_key"]["key_id"].as_str().unwrap(), rotated["secret"].as_str().unwrap());
    assert_eq!(nodes.statuses(key).await, [200; 3]);
    third.revoke(id).await;
    nodes.all_answer(key, 401).await;

    for node in &nodes.all {
        let metrics = node.http.get(format!("{}/metrics", node.metrics)).send().await.unwrap().text().await.unwrap();
        let value = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name}")).rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(value("keygate_feed_propagation_seconds_count") >= 5.0, "issue, two updates, rotation, revocation");
        assert!(metrics.contains("keygate_lookups_total{level="), "where keys were found");
        wait_for(async || match node.metric("keygate_feed_age_seconds").await {
            Some(..5.0) => Ok(()),
            age => Err(format!("the changes were last read {age:?} seconds ago")),
        })
        .await;
    }
}

#[tokio::test]
async fn import_and_deletion_take_effect_on_every_node() {
    let nodes = Nodes::start(2);
    assert_eq!(nodes.statuses("sk_live_imported").await, [401; 2]);
    for round in 0..3 {
        let id = nodes.all[round % 2].import(json!({"raw_key": "sk_live_imported"})).await;
        nodes.all_answer("sk_live_imported", 200).await;
        let path = format!("DELETE /v2alpha1/admin/importedApiKeys/{id}");
        assert_eq!(nodes.all[(round + 1) % 2].send(&path, "").await.status, 204);
        nodes.all_answer("sk_live_imported", 401).await;
    }
}

#[tokio::test]
async fn tokens_of_a_revoked_parent_are_rejected_on_every_node() {
    let nodes = Nodes::start(2);
    let (id, key) = nodes.all[0].issue(json!({})).await;
    let request = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    let token = nodes.all[0].send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token");
    assert_eq!(nodes.statuses(&token).await, [200; 2]);
    nodes.all[0].revoke(&id).await;
    nodes.all_answer(&token, 401).await;
}
