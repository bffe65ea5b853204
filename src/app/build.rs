//! The version of this build.

use sha2::{Digest, Sha256};

use crate::admin::Version;
use crate::config::Config;

/// The commit that this binary was built from, if `KEYGATE_COMMIT` was set at build time.
pub const COMMIT: &str = match option_env!("KEYGATE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// When this binary was built, if `KEYGATE_BUILD_TIME` was set at build time.
pub const BUILD_TIME: &str = match option_env!("KEYGATE_BUILD_TIME") {
    Some(time) => time,
    None => "unknown",
};

pub(super) fn version(config: &Config) -> Version {
    // Secrets are redacted in this text, so the hash reveals nothing about them.
    let text = format!("{}:{}:{config:?}", config.serve.http.host, config.tenant());
    Version {
        version: env!("CARGO_PKG_VERSION").into(),
        commit: COMMIT.into(),
        build_time: BUILD_TIME.into(),
        config_hash: hex::encode(Sha256::digest(text)),
    }
}
