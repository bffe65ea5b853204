//! The command line against a running Keygate, as a shell uses it.

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

/// No key has this id.
const UNKNOWN: &str = "11111111-2222-4333-8444-555555555555";
/// Nobody listens there: a port below 1024, which no test gets by chance.
const NOWHERE: &str = "http://127.0.0.1:1";
/// The beginning of every issued secret.
const SECRET_PREFIX: &str = "ory_ak_v1_";

/// What a finished command has left behind.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// `keygate`, which is told by the environment where the server is.
fn cli(keygate: &Keygate, arguments: &[&str]) -> Command {
    let mut command = command();
    command.env("KEYGATE_ENDPOINT", &keygate.admin).args(arguments);
    command
}

/// Runs a command to its end.
fn end(command: &mut Command) -> Ended {
    end_with(command, "")
}

/// Runs a command to its end, with something to read on stdin.
fn end_with(command: &mut Command, stdin: &str) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A command that fails early does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What a command that succeeds prints; nothing else than its data is said.
fn print(keygate: &Keygate, arguments: &[&str]) -> String {
    let ended = end(&mut cli(keygate, arguments));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    ended.stdout
}

/// The JSON that a command prints, whatever it says beside.
fn json(keygate: &Keygate, arguments: &[&str]) -> Value {
    let ended = end(cli(keygate, arguments).args(["--format", "json"]));
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {ended:?}"))
}

/// What a command that fails says; on stdout there is nothing.
fn fail(command: &mut Command) -> String {
    let ended = end(command);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{command:?}: {}", ended.stderr);
    ended.stderr
}

/// Issues a key: its id and its secret.
fn issue(keygate: &Keygate, name: &str) -> (String, String) {
    let issued = json(keygate, &["keys", "issue", name, "--actor", "ada", "--scopes", "read,write"]);
    (text(&issued["issued_api_key"]["key_id"]), text(&issued["secret"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The lines of a single thing's table, by header.
fn rows(table: &str) -> Vec<(&str, &str)> {
    table.lines().map(|line| line.split_once('\t').unwrap_or_else(|| panic!("{line:?} has no tab"))).collect()
}
