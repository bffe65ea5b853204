//! Tests of `docs/cli.md`: the examples run, and every command is mentioned.

use std::path::Path;
use std::process::Command;

use super::run;
use crate::support::keygate::{BINARY, Keygate, command};

const MANUAL: &str = include_str!("../../../docs/cli.md");

/// All code blocks marked as `sh`, concatenated.
fn script() -> String {
    let blocks = MANUAL.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

#[test]
fn examples_run_as_one_script() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let mut shell = Command::new("sh");
    let binary = Path::new(BINARY).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    shell.args(["-euc", &script()]).env("PATH", path).env("KEYGATE_ENDPOINT", &keygate.admin);
    shell.env("KEYGATE_ADMIN_KEY", &keygate.admin_key);
    let folder = tempfile::tempdir().unwrap();
    let output = shell.env_remove("KEYGATE_ADMIN_TOKEN").current_dir(folder.path()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("true\nfalse\n") && stdout.contains("no longer valid\n"), "{stdout}");
    for name in ["signing-keys.json", "keygate.bash", "_keygate", "keygate.fish", "man1/keygate-keys-issued-issue.1"] {
        assert!(folder.path().join(name).exists(), "{name} was not written");
    }
}

#[test]
fn every_command_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(command().args(["man", "--out"]).arg(folder.path())).code, Some(0));
    let pages = std::fs::read_dir(folder.path()).unwrap();
    let pages: Vec<String> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert!(pages.len() > 30, "{pages:?}");
    let manual = MANUAL.replace(' ', "-");
    for page in &pages {
        let name = page.strip_suffix(".1").unwrap();
        assert!(manual.contains(name), "{name} is not in docs/cli.md");
    }
}
