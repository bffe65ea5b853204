//! Output formats.

use std::process::Command;

use serde_json::Value;

use super::{cli, issue, json, run, success, text};
use crate::support::keygate::Keygate;

#[test]
fn key_is_printed_in_every_format() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, _) = issue(&keygate, "Orders");
    let get = |arguments: &[&str]| success(&keygate, &[&["keys", "issued", "get", &id], arguments].concat());
    let table = format!("KEY ID\t{id}\nNAME\tOrders\nACTOR ID\tada\nSTATUS\tKEY_STATUS_ACTIVE\nSCOPES\tread,write\n");
    assert_eq!((get(&[]), get(&["--format", "table"])), (table.clone(), table));
    let json = get(&["--format", "json"]);
    let key: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.lines().count(), 1);
    assert_eq!(get(&["--format", "json-pretty"]), format!("{key:#}\n"));
    let yaml = get(&["--format", "yaml"]);
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), key);
    for (format, expected) in [
        ("jsonpath=$.name", "Orders\n"),
        ("jsonpath=.scopes[*]", "read\nwrite\n"),
        ("jsonpath=$.scopes", "[\"read\",\"write\"]\n"),
        ("jsonpointer=/scopes/1", "write\n"),
        ("jsonpointer=/metadata", "null\n"),
    ] {
        assert_eq!(get(&["--format", format]), expected, "{format}");
    }
    for quiet in [&["-q"][..], &["--quiet"], &["-q", "--format", "json"]] {
        assert_eq!(get(quiet), format!("{id}\n"));
    }
}

#[test]
fn list_is_printed_in_every_format() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut ids = [issue(&keygate, "a"), issue(&keygate, "a longer name")].map(|(id, _)| id);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let list =
        |arguments: &[&str]| success(&keygate, &[&["keys", "issued", "list", "--actor", "ada"], arguments].concat());
    let table = list(&[]);
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split('\t').filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(lines[0], ["KEY ID", "NAME", "ACTOR ID", "STATUS", "SCOPES"]);
    assert_eq!((lines[1][0], lines[2][0], lines.len()), (ids[0].as_str(), ids[1].as_str(), 3));
    assert_eq!(lines[1][2..], ["ada", "KEY_STATUS_ACTIVE", "read,write"]);
    let all = format!("{}\n{}\n", ids[0], ids[1]);
    for arguments in
        [&["-q"][..], &["--format", "jsonpath=$.issued_api_keys[*].key_id"], &["--format", "jsonpath=$..key_id"]]
    {
        assert_eq!(list(arguments), all, "{arguments:?}");
    }
    assert_eq!(list(&["--format", "jsonpointer=/issued_api_keys/1/key_id"]), format!("{}\n", ids[1]));
    let response: Value = serde_json::from_str(&list(&["--format", "json"])).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&list(&["--format", "yaml"])).unwrap(), response);
    assert_eq!(serde_json::from_str::<Value>(&list(&["--format", "json-pretty"])).unwrap(), response);
    let none = success(&keygate, &["keys", "imported", "list"]);
    assert_eq!(none.lines().count(), 1, "an empty list prints the header line");
    assert_eq!(success(&keygate, &["keys", "imported", "list", "-q"]), "");
}

#[test]
fn shell_script_can_use_the_output() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let script = r#"
        set -eu
        secret=$("$KEYGATE" keys issue Orders --actor ada --format jsonpointer=/secret)
        "$KEYGATE" keys verify "$secret" --format jsonpath='$.actor_id' 2>/dev/null
        id=$("$KEYGATE" keys issued list --actor ada -q)
        "$KEYGATE" keys issued revoke "$id" -q
        "$KEYGATE" keys verify "$secret" >/dev/null 2>&1 || echo revoked
    "#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).env("KEYGATE", crate::support::keygate::BINARY).env("KEYGATE_ENDPOINT", &keygate.admin);
    shell.env("KEYGATE_ADMIN_KEY", &keygate.admin_key);
    let output = shell.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((lines[0], lines[2], lines.len()), ("ada", "revoked", 3));
}

#[test]
fn invalid_format_is_rejected_before_the_call() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    for format in ["xml", "jsonpath=$[", "jsonpointer=secret"] {
        let finished = run(cli(&keygate, &["keys", "issue", "n", "--actor", "ada"]).args(["--format", format]));
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{format}");
        assert!(finished.stderr.contains("--format"), "{}", finished.stderr);
    }
    let keys = json(&keygate, &["keys", "issued", "list"]);
    assert_eq!(keys["issued_api_keys"].as_array().unwrap().len(), 1, "{keys}");
    assert_eq!(text(&keys["issued_api_keys"][0]["actor_id"]), "demo");
}
