//! The forms of output, as scripts use them.

use std::process::Command;

use serde_json::Value;

use super::{cli, end, issue, json, print, text};
use crate::support::keygate::Keygate;

#[test]
fn one_key_is_printed_in_every_form() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, _) = issue(&keygate, "Orders");
    let get = |arguments: &[&str]| print(&keygate, &[&["keys", "issued", "get", &id], arguments].concat());
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
fn a_list_is_printed_in_every_form() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut ids = [issue(&keygate, "a"), issue(&keygate, "a longer name")].map(|(id, _)| id);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let list =
        |arguments: &[&str]| print(&keygate, &[&["keys", "issued", "list", "--actor", "ada"], arguments].concat());
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
    let answer: Value = serde_json::from_str(&list(&["--format", "json"])).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&list(&["--format", "yaml"])).unwrap(), answer);
    assert_eq!(serde_json::from_str::<Value>(&list(&["--format", "json-pretty"])).unwrap(), answer);
    let none = print(&keygate, &["keys", "imported", "list"]);
    assert_eq!(none.lines().count(), 1, "an empty list is a line of headers");
    assert_eq!(print(&keygate, &["keys", "imported", "list", "-q"]), "");
}

#[test]
fn a_shell_works_with_what_is_printed() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let script = r#"
        set -eu
        secret=$("$KEYGATE" keys issue Orders --actor ada --format jsonpointer=/secret)
        "$KEYGATE" keys verify "$secret" --format jsonpath='$.actor_id' 2>/dev/null
        id=$("$KEYGATE" keys issued list --actor ada -q)
        "$KEYGATE" keys issued revoke "$id" -q
        "$KEYGATE" keys verify "$secret" >/dev/null 2>&1 || echo ended
    "#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).env("KEYGATE", crate::support::keygate::BINARY).env("KEYGATE_ENDPOINT", &keygate.admin);
    let output = shell.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((lines[0], lines[2], lines.len()), ("ada", "ended", 3));
}

#[test]
fn a_form_that_does_not_exist_is_refused_before_anything_is_done() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    for format in ["xml", "jsonpath=$[", "jsonpointer=secret"] {
        let ended = end(cli(&keygate, &["keys", "issue", "n", "--actor", "ada"]).args(["--format", format]));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{format}");
        assert!(ended.stderr.contains("--format"), "{}", ended.stderr);
    }
    let keys = json(&keygate, &["keys", "issued", "list"]);
    assert_eq!(keys["issued_api_keys"].as_array().unwrap().len(), 1, "{keys}");
    assert_eq!(text(&keys["issued_api_keys"][0]["actor_id"]), "demo");
}
