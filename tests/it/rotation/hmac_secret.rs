//! The steps of `docs/operations.md` to replace the HMAC secret, on two nodes under load.

use std::path::Path;

use serde_json::{Value, json};

use super::load::Load;
use crate::nodes::Nodes;
use crate::reload::reload;
use crate::support::admin::SIGNING_KEYS;
use crate::support::keygate::{Keygate, write_private};

/// The secrets of a node.
fn secrets(current: &Path, retired: &[&Path]) -> Value {
    json!({"secrets": {"hmac": {"current": null, "current_file": current, "retired_files": retired}}})
}

async fn derive(node: &Keygate, key: &str, algorithm: &str) -> String {
    let request = json!({"credential": key, "ttl": "1h", "algorithm": format!("TOKEN_ALGORITHM_{algorithm}")});
    node.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token")
}

/// The status of a request with a credential, on each node.
async fn statuses(nodes: &[Keygate], credential: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for node in nodes {
        statuses.push(node.call("/", credential).await.status().as_u16());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_is_replaced_without_a_refused_request() {
    use base64::Engine;
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("hmac-1"), folder.path().join("hmac-2"));
    write_private(&first, "the-first-secret-of-32-characters-or-more");
    write_private(&second, "the-second-secret-of-32-characters-or-more");
    let mut settings = secrets(&first, &[]);
    let signing_keys = base64::engine::general_purpose::STANDARD.encode(SIGNING_KEYS);
    settings["credentials"] =
        json!({"derived_tokens": {"jwt": {"signing_keys": {"urls": [format!("base64://{signing_keys}")]}}}});
    let servers = Nodes::start_with(2, &settings);
    let nodes = &servers.all;
    // What the first secret signs, and what it does not.
    let (mut old, mut others) = (Vec::new(), Vec::new());
    for (number, node) in nodes.iter().enumerate() {
        let (_, key) = node.issue(json!({})).await;
        let imported = format!("sk_live_imported_{number}");
        node.import(json!({"raw_key": imported})).await;
        others.extend([imported, derive(node, &key, "JWT").await]);
        old.extend([derive(node, &key, "MACAROON").await, key]);
    }
    let load = Load::start(nodes, [old.clone(), others].concat());
    load.cover().await;

    // 1. Every node accepts the new secret.
    for node in nodes {
        reload(node, &secrets(&first, &[&second])).await;
        old.push(node.issue(json!({})).await.1);
        load.add(old[old.len() - 1].clone());
        load.cover().await;
    }
    // 2. It signs, on one node first: its keys are accepted by the other one.
    for node in nodes {
        reload(node, &secrets(&second, &[&first])).await;
        let (_, key) = node.issue(json!({})).await;
        load.add(derive(node, &key, "MACAROON").await);
        load.add(key);
        load.cover().await;
    }
    // 3. Keys are rotated, with an overlap.
    for (number, key) in nodes[0].list("issued", "").await.iter().enumerate() {
        let rotate = format!("POST /v2alpha1/admin/issuedApiKeys/{}:rotate", key["key_id"].as_str().unwrap());
        let rotated = nodes[number % 2].send_json(&rotate, &json!({"revoke_old_after": "1h"})).await;
        load.add(rotated.text("/secret"));
    }
    load.cover().await;
    assert_eq!(statuses(nodes, &old[1]).await, [200; 2], "the old key is accepted until the secret is removed");
    // 4. The users of the old keys have the new ones.
    for credential in &old {
        load.withdraw(credential);
    }
    for node in nodes {
        reload(node, &secrets(&second, &[])).await;
    }
    for credential in &old {
        assert_eq!(statuses(nodes, credential).await, [401; 2], "{credential}");
    }
    load.finish().await;
}
