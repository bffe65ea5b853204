//! The audit trail: what it has of the calls of the admin API, and that it is found out when it is tampered with.

mod events;
mod tampering;

use std::process::Command;

use crate::support::keygate::{Keygate, command};
use crate::support::wait::wait_for;

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `keygate audit verify` with the configuration of a server and more arguments.
pub(crate) fn verify(keygate: &Keygate, arguments: &[&str]) -> Finished {
    let config = keygate.path().join("keygate.json");
    run(command().args(["audit", "verify", "--config"]).arg(config).args(arguments))
}

fn run(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Waits until every row is sealed.
async fn wait_until_sealed(keygate: &Keygate) {
    wait_for(async || {
        let page = keygate.send("GET /keygate/v1/auditEvents?page_size=1000", "").await;
        let events = page.body["audit_events"].as_array().unwrap();
        let sealed = events.iter().filter(|event| event["seq"].is_u64()).count();
        if sealed == events.len() { Ok(()) } else { Err(format!("{sealed} of {} rows are sealed", events.len())) }
    })
    .await;
}
