//! The admin API through the first published SDK. It cannot be linked beside the current one, so it is a program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::keygate::{BINARY, Keygate};

#[test]
fn every_operation_of_the_first_sdk_works() {
    let program = build();
    let keygate = Keygate::dev(&["--ephemeral"]);
    let output = run(Command::new(program).arg(&keygate.admin));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "17 operations\n");
}

/// As `make test` does beforehand, so that there is nothing left to build here.
fn build() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk-first/Cargo.toml");
    let target = target_dir().join("sdk-first");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet"]);
    cargo.args([OsStr::new("--manifest-path"), manifest.as_os_str(), OsStr::new("--target-dir"), target.as_os_str()]);
    // They describe the package under test; build scripts that look at them would run anew, here and next time outside.
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
