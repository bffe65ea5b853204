//! `keygate admin keys`.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::serve;
use crate::support::keygate::{HMAC_SECRET, Keygate, command};

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn cli(keygate: &Keygate, key: &str, arguments: &[&str]) -> Output {
    run(command().args(arguments).env("KEYGATE_ENDPOINT", &keygate.admin).env("KEYGATE_ADMIN_KEY", key))
}

#[track_caller]
fn success(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn keys_are_created_listed_rotated_and_revoked() {
    let keygate = serve(&json!({}));
    let admin = |arguments: &[&str]| {
        let arguments = [&["admin", "keys"], arguments, &["--format", "json"]].concat();
        success(&cli(&keygate, &keygate.admin_key, &arguments))
    };
    let created = admin(&["create", "pipeline", "--roles", "read,manage", "--actors", "team-a/", "--ttl", "2h"]);
    let id = created["admin_key"]["key_id"].as_str().unwrap();
    assert_eq!(created["admin_key"]["actors"], json!(["team-a/"]));
    let secret = created["secret"].as_str().unwrap();
    assert!(cli(&keygate, secret, &["keys", "issued", "list"]).status.success());
    assert_eq!(admin(&["list"])["admin_keys"][0]["key_id"], id);
    assert_eq!(admin(&["get", id])["name"], "pipeline");
    let rotated = admin(&["rotate", id]);
    let new = rotated["admin_key"]["key_id"].as_str().unwrap();
    assert!(!cli(&keygate, secret, &["keys", "issued", "list"]).status.success());
    assert_eq!(admin(&["revoke", new])["status"], "KEY_STATUS_REVOKED");
    let refused = cli(&keygate, rotated["secret"].as_str().unwrap(), &["keys", "issued", "list"]);
    assert_eq!(String::from_utf8(refused.stderr).unwrap(), "Error: list issued API keys: the admin key is revoked\n");
}

#[tokio::test]
async fn first_key_is_created_in_the_database_while_the_server_runs() {
    let keygate = Keygate::serve_admin(&json!({"serve": {"http": {"auth": {"mode": "keys"}}}}));
    let dsn = format!("sqlite://{}", keygate.path().join("keys.db").display());
    let create = |roles: &str| {
        let mut command = command();
        command.args(["admin", "keys", "create", "first", "--roles", roles, "--database", &dsn, "--format", "json"]);
        command
    };
    let created = success(&run(create("admin,read").env("KEYGATE_SECRETS_HMAC_CURRENT", HMAC_SECRET)));
    let secret = created["secret"].as_str().unwrap();
    assert_eq!(keygate.send_as(secret, "GET /keygate/v1/adminKeys", "").await.status, 200);
    assert_eq!(keygate.send_as(secret, "POST /v2alpha1/admin/issuedApiKeys", "").await.status, 403);
    let file = keygate.path().join("keygate.json");
    let created = success(&run(create("read").arg("--config").arg(file)));
    let secret = created["secret"].as_str().unwrap();
    assert_eq!(keygate.send_as(secret, "GET /v2alpha1/admin/issuedApiKeys", "").await.status, 200);
    for (mut command, words) in
        [(create("read"), "KEYGATE_SECRETS_HMAC_CURRENT"), (create("owner"), "read, verify, manage or admin")]
    {
        let output = run(&mut command);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && error.contains(words), "{error}");
    }
}

#[test]
fn key_is_never_an_argument() {
    for flag in ["--key", "--admin-key", "--token"] {
        let output = run(command().args(["keys", "issued", "list", flag, "secret"]));
        assert!(!output.status.success(), "{flag} is accepted");
    }
}
