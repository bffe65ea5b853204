//! `wrk`: HTTP/1.1 in clear text and over TLS, as fast as requests are answered.

use std::path::{Path, PathBuf};

use super::{CONNECTIONS, Load, Task, Traffic, run_client};
use crate::machine::is_installed;
use crate::tls::CIPHER_SUITE;

const SCRIPT: &str = include_str!("wrk.lua");

pub(super) struct Wrk {
    script: PathBuf,
    /// The configuration of OpenSSL.
    openssl: PathBuf,
}

impl Wrk {
    pub(super) fn new(folder: &Path) -> Self {
        assert!(is_installed("wrk"), "wrk is needed; `deploy/ci/ensure.sh bench` installs it");
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
        run_client(command)
    }
}

/// `wrk` has no option for the version and the cipher suite: OpenSSL offers one of each, so that all proxies use the same.
fn openssl_config() -> String {
    format!(
        "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = defaults\n\
         [defaults]\nMinProtocol = TLSv1.3\nCiphersuites = {CIPHER_SUITE}\n"
    )
}
