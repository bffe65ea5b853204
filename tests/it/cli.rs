//! Command-line tests against a running server.

mod batch;
mod errors;
mod imported;
mod issued;
mod jwk;
mod manual;
mod output;
mod shell;
mod tokens;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::keygate::{Keygate, command};

/// An id without a key.
const UNKNOWN: &str = "11111111-2222-4333-8444-555555555555";
/// An endpoint without a listener: tests bind no ports below 1024.
const NOWHERE: &str = "http://127.0.0.1:1";
/// The prefix of every issued secret.
const SECRET_PREFIX: &str = "ory_ak_v1_";

/// Exit code and output of a command.
#[derive(Debug)]
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// `keygate` with `KEYGATE_ENDPOINT` set to the server.
fn cli(keygate: &Keygate, arguments: &[&str]) -> Command {
    let mut command = command();
    command.env("KEYGATE_ENDPOINT", &keygate.admin).env("KEYGATE_ADMIN_KEY", &keygate.admin_key).args(arguments);
    command
}

/// Runs a command to completion.
fn run(command: &mut Command) -> Finished {
    run_with_stdin(command, "")
}

/// Runs a command to completion with the given stdin.
fn run_with_stdin(command: &mut Command, stdin: &str) -> Finished {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A command that fails early does not read stdin.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command that must succeed with an empty stderr, and returns its stdout.
fn success(keygate: &Keygate, arguments: &[&str]) -> String {
    let finished = run(&mut cli(keygate, arguments));
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    finished.stdout
}

/// Runs a command with `--format json` and parses its stdout. Stderr and exit code are not checked.
fn json(keygate: &Keygate, arguments: &[&str]) -> Value {
    let finished = run(cli(keygate, arguments).args(["--format", "json"]));
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {finished:?}"))
}

/// Runs a command that must fail with exit code 1 and an empty stdout, and returns its stderr.
fn failure(command: &mut Command) -> String {
    let finished = run(command);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{command:?}: {}", finished.stderr);
    finished.stderr
}

/// Issues a key and returns its id and secret.
fn issue(keygate: &Keygate, name: &str) -> (String, String) {
    let issued = json(keygate, &["keys", "issue", name, "--actor", "ada", "--scopes", "read,write"]);
    (text(&issued["issued_api_key"]["key_id"]), text(&issued["secret"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

/// The lines of the table of one object, as header and value.
fn rows(table: &str) -> Vec<(&str, &str)> {
    table.lines().map(|line| line.split_once('\t').unwrap_or_else(|| panic!("{line:?} has no tab"))).collect()
}
