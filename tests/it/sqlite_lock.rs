//! One process uses a SQLite file.

use std::process::{Command, Output};

use keygate_test_servers::free_port;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, command, merge, write_private};

fn start() -> Keygate {
    Keygate::serve(&json!({"routes": [{"name": "all", "auth": "none", "respond": {"status": 204}}]}), &json!({}))
}

/// The configuration of a process with other ports on the same file, and more settings. Returns its path.
fn second(keygate: &Keygate, settings: &Value) -> String {
    let text = std::fs::read_to_string(keygate.path().join("keygate.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["gateway"]["address"] = format!("127.0.0.1:{}", free_port()).into();
    merge(&mut config, &json!({"serve": {"http": {"port": free_port()}, "metrics": {"port": free_port()}}}));
    merge(&mut config, settings);
    let path = keygate.path().join("second.json");
    write_private(&path, &config.to_string());
    path.to_str().unwrap().to_owned()
}

fn run(arguments: &[&str]) -> (Output, String) {
    let output = Command::output(command().args(arguments)).unwrap();
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    (output, errors)
}

#[tokio::test]
async fn second_process_on_a_file_refuses_to_start_and_names_the_first() {
    let mut keygate = start();
    let database = keygate.path().join("keys.db");
    let link = keygate.path().join("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    for path in [&database, &link] {
        let dsn = format!("sqlite://{}", path.display());
        let (output, errors) = run(&["serve", "--config", &second(&keygate, &json!({"db": {"dsn": dsn}}))]);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let process = format!("in use by process {}", keygate.process.id());
        assert!(errors.contains(&process) && errors.contains(path.to_str().unwrap()), "{errors}");
    }
    let (_, key) = keygate.issue(json!({})).await;
    assert_eq!(keygate.call("/", &key).await.status(), StatusCode::NO_CONTENT, "the first process goes on");
    // After a crash the lock is free.
    keygate.process.kill();
    keygate.start_again();
    assert_eq!(keygate.call("/", &key).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn schema_of_a_file_in_use_is_read_and_not_changed() {
    let mut keygate = start();
    let dsn = format!("sqlite://{}", keygate.path().join("keys.db").display());
    let migrate = |command: &[&str]| run(&[&["migrate", "--database", &dsn], command].concat());
    for command in [&["status"][..], &["up"]] {
        let (output, errors) = migrate(command);
        assert!(output.status.success(), "{errors}");
    }
    for command in [&["down"][..], &["force", "1"]] {
        let (output, errors) = migrate(command);
        let process = format!("in use by process {}", keygate.process.id());
        assert!(!output.status.success() && errors.contains(&process), "{command:?}: {errors}");
    }
    keygate.whole_log();
    let (output, errors) = migrate(&["down"]);
    assert!(output.status.success(), "{errors}");
}
