//! `keygate config`, and configurations that stop the start.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Output;

use crate::support::keygate::{HMAC_SECRET, command, write_private};
use keygate_test_servers::{Process, free_port};
use serde_json::{Value, json};

fn run(arguments: &[&str], text: &str, variables: &[(&str, &str)]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keygate.yaml");
    write_private(&file, text);
    let mut command = command();
    command.args(arguments).arg("--config").arg(&file).current_dir(folder.path()).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    (output, errors)
}

#[test]
fn minimal_config_needs_an_issuer_and_a_secret() {
    let minimal = include_str!("../../config/minimal.yaml");
    let (output, errors) = run(&["config", "check"], minimal, &[]);
    assert_eq!(output.status.code(), Some(1));
    for path in ["credentials.issuer:", "secrets.hmac.current:", "KEYGATE_SECRETS_HMAC_CURRENT"] {
        assert!(errors.contains(path), "{errors}");
    }
    let variables = [("KEYGATE_CREDENTIALS_ISSUER", "https://x"), ("KEYGATE_SECRETS_HMAC_CURRENT", HMAC_SECRET)];
    assert!(run(&["config", "check"], minimal, &variables).0.status.success());
}

#[test]
fn invalid_config_stops_the_start_and_lists_every_error_without_values() {
    let text = format!(
        "serve: {{ http: {{ host: 0.0.0.0, prt: 1 }} }}\nsecrets: {{ hmac: {{ current: [{HMAC_SECRET}] }} }}\n"
    );
    let (output, errors) = run(&["serve"], &text, &[]);
    assert_eq!(output.status.code(), Some(1));
    for path in ["serve.http.prt:", "secrets.hmac.current:", "credentials.issuer:", "db.dsn:"] {
        assert!(errors.contains(path), "{errors}");
    }
    assert!(!errors.contains(HMAC_SECRET), "{errors}");
}

#[test]
fn admin_api_without_authentication_must_listen_on_loopback() {
    let text = format!(
        "serve: {{ http: {{ host: 0.0.0.0, auth: {{ mode: none }} }} }}\ncredentials: {{ issuer: x }}\nsecrets: {{ hmac: {{ current: {HMAC_SECRET} }} }}\ndb: {{ dsn: ':memory:' }}\n"
    );
    let (output, errors) = run(&["serve"], &text, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("serve.http.host: would open the admin API to the network"), "{errors}");
}

#[test]
fn config_schema_prints_the_committed_schema() {
    let output = command().args(["config", "schema"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), include_str!("../../config/schema.json"));
}

#[test]
fn unknown_environment_variables_are_warnings() {
    let text = format!(
        "credentials: {{ issuer: x }}\nsecrets: {{ hmac: {{ current: {HMAC_SECRET} }} }}\ndb: {{ dsn: ':memory:' }}\n"
    );
    let service_links = [
        ("KEYGATE_SERVICE_HOST", "10.96.12.7"),
        ("KEYGATE_SERVICE_PORT", "8080"),
        ("KEYGATE_SERVICE_PORT_METRICS", "4422"),
        ("KEYGATE_PORT", "tcp://10.96.12.7:8080"),
        ("KEYGATE_PORT_8080_TCP", "tcp://10.96.12.7:8080"),
        ("KEYGATE_PORT_8080_TCP_ADDR", "10.96.12.7"),
    ];
    let (output, errors) = run(&["config", "check"], &text, &service_links);
    assert!(output.status.success() && errors.is_empty(), "{errors}");

    let warning =
        "the environment variable KEYGATE_LOG_LEVL names no setting and is ignored; did you mean KEYGATE_LOG_LEVEL?";
    let variables = [&service_links[..], &[("KEYGATE_LOG_LEVL", "hunter2")]].concat();
    let (output, errors) = run(&["config", "check"], &text, &variables);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, format!("Warning: {warning}\n"));

    // A failed start shows the warning as well: the misspelt variable may be its cause.
    let (output, errors) = run(&["serve"], "db: { dsn: ':memory:' }", &variables);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.starts_with(&format!("Warning: {warning}\nError: ")), "{errors}");

    let wrong = [&variables[..], &[("KEYGATE_LOG_LEVEL", "hunter2")]].concat();
    let (output, errors) = run(&["config", "check"], &text, &wrong);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("log.level: must be debug, info, warn or error") && !errors.contains("hunter2"),
        "{errors}"
    );
}

#[test]
fn serve_logs_unknown_environment_variables_and_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keygate.yaml");
    let ports = [free_port(), free_port()];
    let text = format!(
        "serve: {{ http: {{ port: {} }}, metrics: {{ host: 127.0.0.1, port: {} }} }}\ncredentials: {{ issuer: x }}\n\
         secrets: {{ hmac: {{ current: {HMAC_SECRET} }} }}\ndb: {{ dsn: ':memory:' }}\n",
        ports[0], ports[1]
    );
    std::fs::write(&file, text).unwrap();
    let variables = [("KEYGATE_PORT", "tcp://10.96.12.7:8080"), ("KEYGATE_LOG_LEVL", "debug")];
    let mut command = command();
    let mut process = Process::start(command.arg("serve").arg("--config").arg(&file).envs(variables));
    let log = BufReader::new(process.child().stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    let warning = lines.next().unwrap();
    assert!(warning.contains("\"WARN\"") && warning.contains("KEYGATE_LOG_LEVL names no setting"), "{warning}");
    let started = lines.find(|line| line.contains("is serving")).unwrap();
    assert!(!started.contains("KEYGATE_PORT"), "{started}");
}

#[test]
fn config_diff_prints_what_differs_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, secret: &str, more: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "credentials: {{ issuer: 'https://keys.example.com' }}\nsecrets: {{ hmac: {{ current: {secret} }} }}\n\
             db: {{ dsn: 'sqlite://x' }}\n{more}"
        );
        write_private(&path, &text);
        path
    };
    let before = file("before.yaml", "the-first-secret-of-32-characters-or-more", "cache: { ttl: 60s }\n");
    let after =
        file("after.yaml", "the-second-secret-of-32-characters-or-more", "cache: { ttl: 60s }\nlog: { level: warn }\n");
    let diff = |before: &Path, after: &Path| {
        let output = command().args(["config", "diff", "--format", "json"]).args([before, after]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = diff(&before, &after);
    assert_eq!(code, Some(1), "{text}");
    let found: Vec<Value> = serde_json::from_str(&text).unwrap();
    let expected = json!([
        {"path": "log.level", "before": "info", "after": "warn"},
        {"path": "secrets.hmac.current", "before": "[REDACTED]", "after": "[REDACTED]"}
    ]);
    assert_eq!(json!(found), expected);
    assert_eq!(diff(&before, &before).0, Some(0));
}
