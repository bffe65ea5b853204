//! `keygate config`, and configurations that stop the start.

use std::process::Output;

use crate::support::keygate::{HMAC_SECRET, command};

fn run(arguments: &[&str], text: &str, variables: &[(&str, &str)]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keygate.yaml");
    std::fs::write(&file, text).unwrap();
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
        "serve: {{ http: {{ host: 0.0.0.0 }} }}\ncredentials: {{ issuer: x }}\nsecrets: {{ hmac: {{ current: {HMAC_SECRET} }} }}\ndb: {{ dsn: ':memory:' }}\n"
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
