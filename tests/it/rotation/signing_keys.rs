//! The steps of `docs/operations.md` to replace the signing key of JWTs, on two nodes under load.

use std::path::Path;

use serde_json::{Value, json};

use super::load::Load;
use crate::nodes::Nodes;
use crate::support::keygate::{Keygate, command, write_private};
use crate::support::wait::wait_for;

/// Creates a key as the documentation says.
fn create(folder: &Path, kid: &str) -> Value {
    let file = folder.join(format!("{kid}.json"));
    let output =
        command().args(["jwk", "generate", "eddsa", "--jwks", "--kid", kid, "-o"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let set: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    set["keys"][0].clone()
}

/// Replaces the set of keys in one step.
fn write(file: &Path, keys: &[&Value]) {
    let new = file.with_extension("new");
    write_private(&new, &json!({"keys": keys}).to_string());
    std::fs::rename(new, file).unwrap();
}

/// Waits until the JWKS of every node has these keys.
async fn published(nodes: &[Keygate], expected: &[&str]) {
    for node in nodes {
        wait_for(async || {
            let set = node.send("GET /v2alpha1/derivedKeys/jwks.json", "").await.body;
            let kids: Vec<_> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
            if kids == expected { Ok(()) } else { Err(format!("{kids:?}")) }
        })
        .await;
    }
}

/// Derives a token; returns the `kid` that signed it, and the token.
async fn derive(node: &Keygate, key: &str) -> (String, String) {
    use base64::Engine;
    let token = node.send_json("POST /v2alpha1/admin/apiKeys:derive", &json!({"credential": key, "ttl": "1h"})).await;
    let token = token.text("/token/token");
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let head: Value = serde_json::from_slice(&head).unwrap();
    (head["kid"].as_str().unwrap().to_owned(), token)
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_key_is_replaced_without_a_refused_request() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (create(folder.path(), "old"), create(folder.path(), "new"));
    let file = folder.path().join("set.json");
    write(&file, &[&old]);
    let urls = json!({"signing_keys": {"urls": [format!("file://{}", file.display())]}});
    let servers = Nodes::start_with(2, &json!({"credentials": {"derived_tokens": {"jwt": urls}}}));
    let nodes = &servers.all;
    let (_, key) = nodes[0].issue(json!({})).await;
    let mut old_tokens = Vec::new();
    for node in nodes {
        let (kid, token) = derive(node, &key).await;
        assert_eq!(kid, "old");
        old_tokens.push(token);
    }
    let load = Load::start(nodes, old_tokens.clone());
    load.cover().await;

    // 1. The new key is at the end: it is published, and does not sign.
    write(&file, &[&old, &new]);
    published(nodes, &["old", "new"]).await;
    let (kid, token) = derive(&nodes[1], &key).await;
    assert_eq!(kid, "old");
    old_tokens.push(token.clone());
    load.add(token);
    load.cover().await;
    // 2. It signs. Tokens of one node are accepted by the other one, whichever has read the file first.
    write(&file, &[&new, &old]);
    for node in nodes {
        let (_, token) = wait_for(async || {
            let (kid, token) = derive(node, &key).await;
            if kid == "new" { Ok((kid, token)) } else { Err("the old key signs".to_owned()) }
        })
        .await;
        load.add(token);
        load.cover().await;
    }
    // 3. The tokens of the old key have ended for their users.
    for token in &old_tokens {
        load.withdraw(token);
    }
    write(&file, &[&new]);
    published(nodes, &["new"]).await;
    for node in nodes {
        for token in &old_tokens {
            assert_eq!(node.call("/", token).await.status(), 401, "{token}");
        }
    }
    load.finish().await;
}
