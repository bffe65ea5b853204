//! The admin API through the first published SDK. Cargo cannot link it beside the current one, so a separate program uses it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::keygate::{BINARY, Keygate};

#[test]
fn every_operation_works_with_the_first_sdk() {
    let program = build();
    let keygate = Keygate::dev(&["--ephemeral"]);
    let output = run(Command::new(program).arg(&keygate.admin).env("KEYGATE_ADMIN_KEY", &keygate.admin_key));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "17 operations\n");
}

/// Builds the program with the same command as `make test`, which runs before, so that it is normally up to date.
fn build() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk-first/Cargo.toml");
    let target = target_dir().join("sdk-first");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet"]);
    cargo.args([OsStr::new("--manifest-path"), manifest.as_os_str(), OsStr::new("--target-dir"), target.as_os_str()]);
    // These variables describe the package under test. Build scripts that depend on them would run again.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    run(&mut cargo);
    target.join("debug/keygate-sdk-first")
}

fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
        // The binary under test is at `<target>/<profile>/keygate`.
        None => Path::new(BINARY).ancestors().nth(2).unwrap().to_owned(),
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}
