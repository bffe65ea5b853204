//! The training of `deploy/pgo`, with a binary without instrumentation: every kind of request is answered as expected.

use std::path::Path;
use std::process::Output;

use crate::support::keygate::{BINARY, command_of};

fn train(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/pgo/train.py");
    let arguments = [&["-B", script.to_str().unwrap(), BINARY], arguments].concat();
    command_of("python3", &arguments).output().unwrap()
}

#[test]
fn every_kind_of_request_is_answered_as_expected() {
    let output = train(&["--requests", "1000"]);
    let (sent, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Without a word of what was left out.
    assert!(output.status.success() && errors.is_empty(), "{sent}\n{errors}");
    for kind in ["keys", "TLS", "HTTP/2", "forged keys", "checks of Envoy"] {
        assert!(sent.contains(&format!("train: {kind}: ")), "{kind}: {sent}");
    }
}

#[test]
fn a_binary_that_writes_no_profile_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(&["--requests", "100", "--profiles", folder.path().to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("wrote no profile"), "{errors}");
}
