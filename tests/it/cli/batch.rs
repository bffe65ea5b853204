//! `batch-import`: several batches, existing keys, and invalid items.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Finished, NOWHERE, cli, failure, json, run, run_with_stdin};
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

/// Writes import requests to a file in a temporary directory, which is removed on drop.
fn file(items: &[Value]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, json!(items).to_string()).unwrap();
    (folder, path)
}

fn import(keygate: &Keygate, items: &[Value], arguments: &[&str]) -> Finished {
    let (_folder, path) = file(items);
    run(cli(keygate, &["keys", "imported", "batch-import", "--file"]).arg(path).args(arguments))
}

fn import_json(keygate: &Keygate, items: &[Value]) -> (Finished, Value) {
    let finished = import(keygate, items, &["--format", "json"]);
    let response = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    (finished, response)
}

/// The numbers of imported keys, of failures, and of existing keys (which count as failures too).
fn counts(response: &Value) -> [&Value; 3] {
    ["success_count", "failure_count", "present_count"].map(|member| &response[member])
}

fn listed(keygate: &Keygate) -> HashSet<String> {
    let finished = run(&mut cli(keygate, &["keys", "imported", "list", "--all", "-q"]));
    finished.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn repeated_import_of_10000_keys_is_idempotent() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let items = items(10_000);
    let (first, response) = import_json(&keygate, &items);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(first.stderr, "10000 imported, 0 already present, 0 failed\n", "no progress bar in a pipe");
    assert_eq!(counts(&response), [10_000, 0, 0]);
    assert!(!first.stdout.contains(RAW_KEY_PREFIX));
    let mut ids = HashSet::new();
    for (index, result) in response["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&result["index"], &result["imported_api_key"]["name"]), (&json!(index), &items[index]["name"]));
        ids.insert(result["imported_api_key"]["key_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(listed(&keygate), ids);

    let (second, response) = import_json(&keygate, &items);
    assert_eq!((second.code, second.stderr.as_str()), (Some(0), "0 imported, 10000 already present, 0 failed\n"));
    assert_eq!(counts(&response), [0, 10_000, 10_000]);
    assert_eq!(listed(&keygate), ids);
}

#[test]
fn interrupted_import_can_be_repeated() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let items = items(10_000);
    let before = import(&keygate, &items[..3500], &["-q"]);
    assert_eq!((before.code, before.stdout.lines().count()), (Some(0), 3500));
    let (finished, response) = import_json(&keygate, &items);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), "6500 imported, 3500 already present, 0 failed\n"));
    assert_eq!(counts(&response), [6500, 3500, 3500]);
    for (index, result) in response["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(result["imported_api_key"].is_object(), index >= 3500, "{result}");
    }
    assert_eq!(listed(&keygate).len(), 10_000);
}

#[test]
fn batches_stay_within_the_body_limit_of_the_server() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut items = items(150);
    for item in &mut items {
        item["metadata"] = json!({"text": "x".repeat(60_000)});
    }
    let finished = import(&keygate, &items, &["-q"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), "150 imported, 0 already present, 0 failed\n"));
    let again = import(&keygate, &items, &["-q"]);
    assert_eq!(again.stderr, "0 imported, 150 already present, 0 failed\n");
}

/// Each item gets its own result, whichever error the server reports for the batch.
#[test]
fn invalid_items_do_not_affect_valid_ones() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    import(&keygate, &items(3), &[]);
    let invalid = json!({"raw_key": "x", "actor_id": "ada"});
    let token = json!({"raw_key": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", "name": "n", "actor_id": "ada"});
    for (items, codes, summary) in [
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
            vec![json!("not an object"), json!(null), item(4)],
            vec![INVALID, INVALID, ""],
            "1 imported, 0 already present, 2 failed\n",
        ),
    ] {
        let (finished, response) = import_json(&keygate, &items);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(1), summary), "{items:?}");
        let results = response["results"].as_array().unwrap();
        let prefix = "BATCH_CREATE_IMPORTED_API_KEYS_ERROR_";
        let error_codes: Vec<&str> = results
            .iter()
            .map(|result| result["error_code"].as_str().map_or("", |code| code.strip_prefix(prefix).unwrap()))
            .collect();
        assert_eq!(error_codes, codes, "{items:?}");
        for result in results.iter().filter(|result| result["imported_api_key"].is_null()) {
            assert!(!result["error_message"].as_str().unwrap().is_empty(), "{result}");
        }
    }
}

#[test]
fn result_index_is_the_index_in_the_file() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut items = items(1500);
    items[1234]["name"] = "".into();
    let (first, response) = import_json(&keygate, &items);
    assert_eq!((first.code, counts(&response)), (Some(1), [1499, 1, 0].map(|count| json!(count)).each_ref()));
    assert_eq!(response["results"][1234]["index"], 1234);
    assert!(response["results"][1234]["imported_api_key"].is_null());
    let (second, response) = import_json(&keygate, &items);
    assert_eq!((second.code, second.stderr.as_str()), (Some(1), "0 imported, 1499 already present, 1 failed\n"));
    assert!(response["results"][1234]["error_code"].as_str().unwrap().ends_with("_INVALID_ARGUMENT"));
    items[1234]["name"] = "corrected".into();
    let corrected = import(&keygate, &items, &["-q"]);
    assert_eq!((corrected.code, corrected.stderr.as_str()), (Some(0), "1 imported, 1499 already present, 0 failed\n"));
}

#[test]
fn table_has_one_line_per_key() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    import(&keygate, &items(1), &[]);
    let finished = import(&keygate, &[item(0), item(1), json!({"raw_key": "x", "name": "bad"})], &[]);
    let lines: Vec<Vec<&str>> =
        finished.stdout.lines().map(|line| line.split('\t').filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(lines[0], ["INDEX", "KEY ID", "NAME", "STATUS", "ERROR"]);
    assert_eq!(lines[1], ["0", "key 0", "PRESENT"]);
    assert_eq!((lines[2][0], &lines[2][2..]), ("1", &["key 1", "KEY_STATUS_ACTIVE"][..]));
    assert_eq!(lines[3][..3], ["2", "bad", "FAILED"]);
    assert!(lines[3].len() == 4 && lines.len() == 4, "{}", finished.stdout);
}

#[test]
fn import_batch_alias_reads_from_stdin() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let arguments = ["keys", "imported", "import-batch", "--file", "-", "-q"];
    let finished = run_with_stdin(&mut cli(&keygate, &arguments), &json!(items(2)).to_string());
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "0\n1\n"));
    assert_eq!(json(&keygate, &["keys", "imported", "list"])["imported_api_keys"].as_array().unwrap().len(), 2);
}

#[test]
fn invalid_file_imports_nothing() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.json");
    let import = || {
        let mut command = cli(&keygate, &["keys", "imported", "batch-import", "--file"]);
        command.arg(&path);
        command
    };
    assert!(failure(&mut import()).contains("keys.json"));
    for text in ["", "[]", "{\"raw_key\":\"sk_live_secret_0\"}", "[{\"raw_key\":\"sk_live_secret_0\"}"] {
        std::fs::write(&path, text).unwrap();
        let error = failure(&mut import());
        assert!(error.starts_with("Error: --file: ") && !error.contains(RAW_KEY_PREFIX), "{text}: {error}");
    }
    assert!(listed(&keygate).is_empty());
}

#[test]
fn connection_error_reports_the_number_of_remaining_keys() {
    let (_folder, path) = file(&items(1500));
    let mut command = crate::support::keygate::command();
    command.args(["-e", NOWHERE, "keys", "imported", "batch-import", "-q", "--file"]).arg(path);
    let error = failure(&mut command);
    assert!(error.contains("0 imported, 0 already present, 0 failed\n"), "{error}");
    let expected = "Error: import API keys: 1500 keys remain; run the same command again to continue: cannot reach";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn results_before_a_connection_error_are_printed() {
    let huge = json!({"raw_key": "x", "name": "huge", "actor_id": "ada", "metadata": {"text": "x".repeat(5 << 20)}});
    let (_folder, path) = file(&[huge, item(0)]);
    let mut command = crate::support::keygate::command();
    command.args(["-e", NOWHERE, "keys", "imported", "batch-import", "--format", "json", "--file"]).arg(path);
    let finished = run(&mut command);
    assert_eq!(finished.code, Some(1));
    let response: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(response["results"].as_array().unwrap().len(), 1);
    assert!(response["results"][0]["error_message"].as_str().unwrap().contains("4 MiB"), "{response}");
    assert!(finished.stderr.contains("Error: import API keys: 1 key remains"), "{}", finished.stderr);
}

/// Python provides the pseudo-terminal; it receives stdout and stderr.
#[test]
fn progress_bar_is_shown_on_a_terminal() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (_folder, path) = file(&items(2500));
    let mut terminal = Command::new("python3");
    let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    terminal.args(["-c", spawn, crate::support::keygate::BINARY, "keys", "imported", "batch-import", "-q", "--file"]);
    terminal
        .arg(path)
        .env("KEYGATE_ENDPOINT", &keygate.admin)
        .env("KEYGATE_ADMIN_KEY", &keygate.admin_key)
        .env("TERM", "xterm");
    let output = terminal.stdin(std::process::Stdio::null()).output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{screen}");
    assert!(screen.contains("/2500 keys"), "{screen}");
    assert!(screen.contains("2500 imported, 0 already present, 0 failed"), "{screen}");
}
