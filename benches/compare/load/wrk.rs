//! Runs `wrk`, which sends requests over HTTP/1.1 at full load, in clear text or over TLS.

use std::path::{Path, PathBuf};

use super::{CONNECTIONS, Load, Task, Traffic, run_command};
use crate::machine::is_installed;
use crate::tls::CIPHER_SUITE;

const SCRIPT: &str = include_str!("wrk.lua");

/// The files that `wrk` reads.
pub(super) struct Wrk {
    /// The Lua script that builds the requests and prints the result.
    script: PathBuf,
    /// The configuration file of OpenSSL.
    openssl: PathBuf,
}

impl Wrk {
    /// Writes the files to `folder`. Panics if `wrk` is not installed.
    pub(super) fn new(folder: &Path) -> Self {
        assert!(is_installed("wrk"), "wrk is not installed; `deploy/ci/ensure.sh bench` installs it");
        let wrk = Self { script: folder.join("wrk.lua"), openssl: folder.join("openssl.cnf") };
        std::fs::write(&wrk.script, SCRIPT).unwrap();
        std::fs::write(&wrk.openssl, openssl_config()).unwrap();
        wrk
    }

    pub(super) fn run(&self, task: &Task<'_>) -> Load {
        let scheme = if task.traffic == Traffic::Tls { "https" } else { "http" };
        let mut command = task.cores.command(Path::new("wrk"));
        command
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", task.seconds), "--latency", "-s"])
            .arg(&self.script)
            .arg(format!("{scheme}://{}/", task.address))
            .arg("--")
            .arg(task.requests)
            .env("OPENSSL_CONF", &self.openssl);
        run_command(command)
    }
}

/// A configuration of OpenSSL that offers one TLS version and one cipher suite, so that all proxies use the same. `wrk` has no options
/// for them.
fn openssl_config() -> String {
    format!(
        "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = defaults\n\
         [defaults]\nMinProtocol = TLSv1.3\nCiphersuites = {CIPHER_SUITE}\n"
    )
}
