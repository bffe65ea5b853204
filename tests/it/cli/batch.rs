//! Imports of many keys: what does not fit into one call, what is there already, what is wrong.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Ended, NOWHERE, cli, end, end_with, fail, json};
use crate::support::keygate::Keygate;

const RAW_KEY_PREFIX: &str = "sk_live_secret_";

const PRESENT: &str = "ALREADY_EXISTS";
const INVALID: &str = "INVALID_ARGUMENT";
const TOKEN: &str = "FAILED_PRECONDITION";

fn item(number: usize) -> Value {
    json!({"raw_key": format!("{RAW_KEY_PREFIX}{number:05}"), "name": format!("key {number}"), "actor_id": "ada"})
}

fn items(count: usize) -> Vec<Value> {
    (0..count).map(item).collect()
}

/// A file of import requests, which goes with its folder.
fn file(items: &[Value]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, json!(items).to_string()).unwrap();
    (folder, path)
}

fn import(keygate: &Keygate, items: &[Value], arguments: &[&str]) -> Ended {
    let (_folder, path) = file(items);
    end(cli(keygate, &["keys", "imported", "batch-import", "--file"]).arg(path).args(arguments))
}

fn import_json(keygate: &Keygate, items: &[Value]) -> (Ended, Value) {
    let ended = import(keygate, items, &["--format", "json"]);
    let answer = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    (ended, answer)
}

/// How many keys were imported, how many results are no success, how many of these are there already.
fn counts(answer: &Value) -> [&Value; 3] {
    ["success_count", "failure_count", "present_count"].map(|member| &answer[member])
}

fn listed(keygate: &Keygate) -> HashSet<String> {
    let ended = end(&mut cli(keygate, &["keys", "imported", "list", "--all", "-q"]));
    ended.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn ten_thousand_keys_are_imported_once() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let items = items(10_000);
    let (first, answer) = import_json(&keygate, &items);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(first.stderr, "10000 imported, 0 already present, 0 failed\n", "there is no bar in a pipe");
    assert_eq!(counts(&answer), [10_000, 0, 0]);
    assert!(!first.stdout.contains(RAW_KEY_PREFIX));
    let mut ids = HashSet::new();
    for (index, result) in answer["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&result["index"], &result["imported_api_key"]["name"]), (&json!(index), &items[index]["name"]));
        ids.insert(result["imported_api_key"]["key_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(listed(&keygate), ids);

    let (second, answer) = import_json(&keygate, &items);
    assert_eq!((second.code, second.stderr.as_str()), (Some(0), "0 imported, 10000 already present, 0 failed\n"));
    assert_eq!(counts(&answer), [0, 10_000, 10_000]);
    assert_eq!(listed(&keygate), ids);
}

#[test]
fn an_interrupted_import_is_taken_up_where_it_ended() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let items = items(10_000);
    let before = import(&keygate, &items[..3500], &["-q"]);
    assert_eq!((before.code, before.stdout.lines().count()), (Some(0), 3500));
    let (ended, answer) = import_json(&keygate, &items);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), "6500 imported, 3500 already present, 0 failed\n"));
    assert_eq!(counts(&answer), [6500, 3500, 3500]);
    for (index, result) in answer["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(result["imported_api_key"].is_object(), index >= 3500, "{result}");
    }
    assert_eq!(listed(&keygate).len(), 10_000);
}

#[test]
fn a_batch_is_below_the_size_that_the_server_takes() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut items = items(150);
    for item in &mut items {
        item["metadata"] = json!({"text": "x".repeat(60_000)});
    }
    let ended = import(&keygate, &items, &["-q"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), "150 imported, 0 already present, 0 failed\n"));
    let again = import(&keygate, &items, &["-q"]);
    assert_eq!(again.stderr, "0 imported, 150 already present, 0 failed\n");
}

/// Whatever a batch as a whole is answered, each of its keys gets its own result.
#[test]
fn what_cannot_be_imported_is_named_among_what_can() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    import(&keygate, &items(3), &[]);
    let invalid = json!({"raw_key": "x", "actor_id": "ada"});
    let token = json!({"raw_key": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", "name": "n", "actor_id": "ada"});
    for (items, codes, said) in [
        (
            vec![item(0), item(3), invalid.clone(), token.clone(), item(3)],
            vec![PRESENT, "", INVALID, TOKEN, PRESENT],
            "1 imported, 2 already present, 2 failed\n",
        ),
        (
            vec![item(0), item(1), item(2), invalid.clone()],
            vec![PRESENT, PRESENT, PRESENT, INVALID],
            "0 imported, 3 already present, 1 failed\n",
        ),
        (
            vec![invalid.clone(), invalid.clone(), token.clone(), item(0)],
            vec![INVALID, INVALID, TOKEN, PRESENT],
            "0 imported, 1 already present, 3 failed\n",
        ),
        (vec![token.clone(), token, item(0)], vec![TOKEN, TOKEN, PRESENT], "0 imported, 1 already present, 2 failed\n"),
        (
            vec![json!("no object"), json!(null), item(4)],
            vec![INVALID, INVALID, ""],
            "1 imported, 0 already present, 2 failed\n",
        ),
    ] {
        let (ended, answer) = import_json(&keygate, &items);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), said), "{items:?}");
        let results = answer["results"].as_array().unwrap();
        let prefix = "BATCH_CREATE_IMPORTED_API_KEYS_ERROR_";
        let found: Vec<&str> = results
            .iter()
            .map(|result| result["error_code"].as_str().map_or("", |code| code.strip_prefix(prefix).unwrap()))
            .collect();
        assert_eq!(found, codes, "{items:?}");
        for result in results.iter().filter(|result| result["imported_api_key"].is_null()) {
            assert!(!result["error_message"].as_str().unwrap().is_empty(), "{result}");
        }
    }
}

#[test]
fn a_fault_in_the_last_batch_has_its_place_in_the_file() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut items = items(1500);
    items[1234]["name"] = "".into();
    let (first, answer) = import_json(&keygate, &items);
    assert_eq!((first.code, counts(&answer)), (Some(1), [1499, 1, 0].map(|count| json!(count)).each_ref()));
    assert_eq!(answer["results"][1234]["index"], 1234);
    assert!(answer["results"][1234]["imported_api_key"].is_null());
    let (second, answer) = import_json(&keygate, &items);
    assert_eq!((second.code, second.stderr.as_str()), (Some(1), "0 imported, 1499 already present, 1 failed\n"));
    assert!(answer["results"][1234]["error_code"].as_str().unwrap().ends_with("_INVALID_ARGUMENT"));
    items[1234]["name"] = "mended".into();
    let mended = import(&keygate, &items, &["-q"]);
    assert_eq!((mended.code, mended.stderr.as_str()), (Some(0), "1 imported, 1499 already present, 0 failed\n"));
}

#[test]
fn the_table_has_a_line_for_each_key() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    import(&keygate, &items(1), &[]);
    let ended = import(&keygate, &[item(0), item(1), json!({"raw_key": "x", "name": "bad"})], &[]);
    let lines: Vec<Vec<&str>> =
        ended.stdout.lines().map(|line| line.split('\t').filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(lines[0], ["INDEX", "KEY ID", "NAME", "STATUS", "ERROR"]);
    assert_eq!(lines[1], ["0", "key 0", "PRESENT"]);
    assert_eq!((lines[2][0], &lines[2][2..]), ("1", &["key 1", "KEY_STATUS_ACTIVE"][..]));
    assert_eq!(lines[3][..3], ["2", "bad", "FAILED"]);
    assert!(lines[3].len() == 4 && lines.len() == 4, "{}", ended.stdout);
}

#[test]
fn stdin_and_the_other_name_do_the_same() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let arguments = ["keys", "imported", "import-batch", "--file", "-", "-q"];
    let ended = end_with(&mut cli(&keygate, &arguments), &json!(items(2)).to_string());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "0\n1\n"));
    assert_eq!(json(&keygate, &["keys", "imported", "list"])["imported_api_keys"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_that_cannot_be_read_imports_nothing() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.json");
    let import = || {
        let mut command = cli(&keygate, &["keys", "imported", "batch-import", "--file"]);
        command.arg(&path);
        command
    };
    assert!(fail(&mut import()).contains("keys.json"));
    for text in ["", "[]", "{\"raw_key\":\"sk_live_secret_0\"}", "[{\"raw_key\":\"sk_live_secret_0\"}"] {
        std::fs::write(&path, text).unwrap();
        let error = fail(&mut import());
        assert!(error.starts_with("Error: --file: ") && !error.contains(RAW_KEY_PREFIX), "{text}: {error}");
    }
    assert!(listed(&keygate).is_empty());
}

#[test]
fn an_import_that_cannot_go_on_says_how_much_is_left() {
    let (_folder, path) = file(&items(1500));
    let mut command = crate::support::keygate::command();
    command.args(["-e", NOWHERE, "keys", "imported", "batch-import", "-q", "--file"]).arg(path);
    let error = fail(&mut command);
    assert!(error.contains("0 imported, 0 already present, 0 failed\n"), "{error}");
    let expected = "Error: import API keys: 1500 are left, run the same command again for the rest: cannot reach";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_was_done_before_the_end_is_printed() {
    let huge = json!({"raw_key": "x", "name": "huge", "actor_id": "ada", "metadata": {"text": "x".repeat(5 << 20)}});
    let (_folder, path) = file(&[huge, item(0)]);
    let mut command = crate::support::keygate::command();
    command.args(["-e", NOWHERE, "keys", "imported", "batch-import", "--format", "json", "--file"]).arg(path);
    let ended = end(&mut command);
    assert_eq!(ended.code, Some(1));
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    assert!(answer["results"][0]["error_message"].as_str().unwrap().contains("4 MiB"), "{answer}");
    assert!(ended.stderr.contains("Error: import API keys: 1 is left"), "{}", ended.stderr);
}

/// Python makes the terminal; everything is written to it, as on a person's screen.
#[test]
fn a_terminal_has_a_bar() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (_folder, path) = file(&items(2500));
    let mut terminal = Command::new("python3");
    let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    terminal.args(["-c", spawn, crate::support::keygate::BINARY, "keys", "imported", "batch-import", "-q", "--file"]);
    terminal.arg(path).env("KEYGATE_ENDPOINT", &keygate.admin).env("TERM", "xterm");
    let output = terminal.stdin(std::process::Stdio::null()).output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{screen}");
    assert!(screen.contains("/2500 keys"), "{screen}");
    assert!(screen.contains("2500 imported, 0 already present, 0 failed"), "{screen}");
}
