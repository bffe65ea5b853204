//! `keygate keys issued`.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use super::{SECRET_PREFIX, UNKNOWN, cli, failure, issue, json, rows, run, success, text};
use crate::support::keygate::Keygate;

fn time_to_live(key: &Value) -> Duration {
    let time = |member: &str| DateTime::parse_from_rfc3339(key[member].as_str().unwrap()).unwrap();
    (time("expire_time") - time("create_time")).to_std().unwrap()
}

#[test]
fn key_is_issued_with_all_fields() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let response = json(
        &keygate,
        &[
            "keys",
            "issue",
            "Orders",
            "--actor=ada",
            "--scopes= read, write",
            "--ttl=2w",
            r#"--metadata={"team":"blue"}"#,
            "--allowed-cidrs=10.0.0.0/8,::1/128",
            "--rate-limit-quota=100",
            "--rate-limit-window=1m",
        ],
    );
    assert!(response["secret"].as_str().unwrap().starts_with(SECRET_PREFIX));
    let key = &response["issued_api_key"];
    for (member, expected) in [
        ("name", json!("Orders")),
        ("actor_id", json!("ada")),
        ("scopes", json!(["read", "write"])),
        ("status", json!("KEY_STATUS_ACTIVE")),
        ("metadata", json!({"team": "blue"})),
        ("ip_restriction", json!({"allowed_cidrs": ["10.0.0.0/8", "::1/128"]})),
        ("rate_limit_policy", json!({"quota": "100", "window": "60s", "unit": "requests"})),
    ] {
        assert_eq!(key[member], expected, "{member}");
    }
    assert_eq!(time_to_live(key).as_secs(), 14 * 24 * 3600);
}

#[test]
fn ttl_accepts_all_units_and_defaults_to_24_hours() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    for (arguments, hours) in [
        (&[][..], 24),
        (&["--ttl", "90m"], 1),
        (&["--ttl", "1y"], 365 * 24),
        (&["--ttl", "1mo1w1d1h"], 38 * 24 + 1),
        (&["--ttl", ""], 2160),
    ] {
        let response = json(&keygate, &[&["keys", "issued", "issue", "n", "--actor", "ada"], arguments].concat());
        assert_eq!(time_to_live(&response["issued_api_key"]).as_secs() / 3600, hours, "{arguments:?}");
    }
}

#[test]
fn issue_and_its_aliases_print_the_secret_only_once() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    for words in [&["issue"][..], &["create"], &["issued", "issue"], &["issued", "create"]] {
        let table = success(&keygate, &[&["keys"], words, &["n", "--actor", "ada", "--scopes", "a,b"]].concat());
        let rows = rows(&table);
        let [("KEY ID", id), named @ .., ("SECRET", secret)] = rows.as_slice() else { panic!("{table}") };
        let expected = [("NAME", "n"), ("ACTOR ID", "ada"), ("STATUS", "KEY_STATUS_ACTIVE"), ("SCOPES", "a,b")];
        assert_eq!(named, expected);
        assert!(secret.starts_with(SECRET_PREFIX));
        let shown = success(&keygate, &["keys", "issued", "get", id]);
        assert_eq!(shown, table[..table.find("SECRET").unwrap()], "get does not print the secret");
        let commands = [&["get", id][..], &["list"], &["update", id, "--name", "m"], &["revoke", id]];
        for arguments in commands {
            let response = json(&keygate, &[&["keys", "issued"], arguments].concat()).to_string();
            assert!(response.contains(id) && !response.contains(SECRET_PREFIX), "{arguments:?}: {response}");
        }
    }
}

#[test]
fn update_changes_only_the_given_fields() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, _) = issue(&keygate, "before");
    let update = |arguments: &[&str]| json(&keygate, &[&["keys", "issued", "update", &id], arguments].concat());
    let key = update(&["--name", "after", "--rate-limit-quota", "5", "--rate-limit-window", "1h"]);
    assert_eq!((&key["name"], &key["scopes"]), (&json!("after"), &json!(["read", "write"])));
    assert_eq!(key["rate_limit_policy"]["window"], "3600s");
    let key = update(&["--scopes", "", "--metadata", r#"{"a":1}"#, "--allowed-cidrs", "10.0.0.0/8"]);
    assert_eq!((&key["name"], &key["scopes"], &key["metadata"]), (&json!("after"), &json!([]), &json!({"a": 1})));
    let key = update(&["--update-mask", "rate_limit_policy,ip_restriction"]);
    assert!(key.get("rate_limit_policy").is_none() && key.get("ip_restriction").is_none(), "{key}");
    assert_eq!((&key["name"], &key["metadata"]), (&json!("after"), &json!({"a": 1})));
    assert_eq!(json(&keygate, &["keys", "issued", "get", &id]), key);
    for (arguments, words) in [
        (&[][..], "nothing to change"),
        (&["--rate-limit-quota", "0"], "--update-mask rate_limit_policy"),
        (&["--rate-limit-window", "60s"], "--rate-limit-quota"),
        (&["--metadata", ""], "--metadata '{}'"),
        (&["--update-mask", "actor_id"], "unknown update_mask path"),
    ] {
        let error = failure(&mut cli(&keygate, &[&["keys", "issued", "update", &id], arguments].concat()));
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    assert_eq!(json(&keygate, &["keys", "issued", "get", &id]), key, "failed updates change nothing");
}

#[test]
fn rotation_returns_a_new_secret_and_revokes_the_old_key() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "Orders");
    let response = json(&keygate, &["keys", "issued", "rotate", &id, "--scopes", "read", "--metadata", r#"{"n":2}"#]);
    let key = &response["issued_api_key"];
    assert_eq!(
        (&key["name"], &key["scopes"], &key["metadata"]),
        (&json!("Orders"), &json!(["read"]), &json!({"n": 2}))
    );
    assert_eq!(response["old_issued_api_key"]["key_id"], id.as_str());
    let new = text(&response["secret"]);
    assert_eq!(run(&mut cli(&keygate, &["keys", "verify", &new])).code, Some(0));
    assert_eq!(run(&mut cli(&keygate, &["keys", "verify", &secret])).code, Some(1));
    let table = success(&keygate, &["keys", "issued", "rotate", &text(&key["key_id"]), "--name", "Orders 3"]);
    let rows = rows(&table);
    assert_eq!((rows[1], rows[5].0), (("NAME", "Orders 3"), "SECRET"));
    assert_ne!(rows[5].1, new);
}

#[test]
fn revocation_prints_the_key_with_its_reason() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    for (reason, wire) in [
        ("key_compromise", "REVOCATION_REASON_KEY_COMPROMISE"),
        ("REVOCATION_REASON_SUPERSEDED", "REVOCATION_REASON_SUPERSEDED"),
        ("Affiliation-Changed", "REVOCATION_REASON_AFFILIATION_CHANGED"),
    ] {
        let (id, _) = issue(&keygate, "n");
        let key = json(&keygate, &["keys", "issued", "revoke", &id, "--reason", reason]);
        assert_eq!((&key["status"], &key["revocation_reason"]), (&json!("KEY_STATUS_REVOKED"), &json!(wire)));
        assert_eq!(json(&keygate, &["keys", "issued", "get", &id]), key);
        let error = failure(&mut cli(&keygate, &["keys", "issued", "revoke", &id]));
        assert_eq!(error, "Error: revoke issued API key: key is already revoked\n");
    }
    let (id, _) = issue(&keygate, "n");
    let reason = ["--reason", "privilege_withdrawn", "--reason-text", "left the company"];
    let key = json(&keygate, &[&["keys", "issued", "revoke", &id][..], &reason].concat());
    assert_eq!(key["revocation_description"], "left the company");
    let (id, _) = issue(&keygate, "n");
    let table = success(&keygate, &["keys", "issued", "revoke", &id]);
    assert_eq!(rows(&table)[3], ("STATUS", "KEY_STATUS_REVOKED"));
    let error = failure(&mut cli(&keygate, &["keys", "issued", "revoke", UNKNOWN, "--reason", "boredom"]));
    assert!(error.contains("--reason") && error.contains("key_compromise"), "{error}");
}

#[test]
fn lists_are_filtered_and_paginated() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut ids: Vec<String> = (0..5).map(|number| issue(&keygate, &number.to_string()).0).collect();
    json(&keygate, &["keys", "issued", "revoke", &ids[0]]);
    ids.sort_unstable_by(|a, b| b.cmp(a));

    let list = ["keys", "issued", "list", "--actor", "ada", "-q"];
    let (mut listed, mut token) = (String::new(), String::new());
    for _ in 0..3 {
        let finished = run(cli(&keygate, &list).args(["--page-size", "2", "--page-token", &token]));
        listed.push_str(&finished.stdout);
        token = finished.stderr.trim_end().strip_prefix("Next page token: ").unwrap_or_default().to_owned();
    }
    let all = ids.join("\n") + "\n";
    assert_eq!((listed.as_str(), token.as_str()), (all.as_str(), ""));
    // Tokens are base64url: one in 64 starts with a hyphen, like a flag.
    let error = failure(cli(&keygate, &list).args(["--page-token", "-no-token"]));
    assert_eq!(error, "Error: list issued API keys: invalid page token\n");
    assert_eq!(success(&keygate, &[&list[..], &["--all", "--page-size", "2"]].concat()), all);
    assert_eq!(success(&keygate, &[&list[..], &["--all"]].concat()), all);

    let whole = json(&keygate, &["keys", "issued", "list", "--all", "--page-size", "2"]);
    assert_eq!(whole["issued_api_keys"].as_array().unwrap().len(), 6, "the demonstration key is included");
    assert_eq!(whole["next_page_token"], "");
    for (status, count) in [("active", 4), ("KEY_STATUS_REVOKED", 1), ("expired", 0)] {
        let found = success(&keygate, &[&list[..], &["--status", status]].concat());
        assert_eq!(found.lines().count(), count, "{status}");
    }
    for (arguments, words) in [
        (&["--page-size", "1001"][..], "Error: list issued API keys: "),
        (&["--page-token", "nonsense"], "invalid page token"),
        (&["--status", "good"], "active, revoked, expired"),
    ] {
        let error = failure(cli(&keygate, &["keys", "issued", "list"]).args(arguments));
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}
