//! The version of this build, and the signing keys of a configuration.

use prometheus::Registry;
use sha2::{Digest, Sha256};

use super::error::AppError;
use crate::admin::Version;
use crate::config::Config;
use crate::signing_keys::{self, SigningKeyRefresher};

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

/// Loads the keys that sign derived JWTs.
pub(super) async fn signing_keys(config: &Config, registry: &Registry) -> Result<SigningKeyRefresher, AppError> {
    let sources = &config.credentials.derived_tokens.jwt.signing_keys;
    let options = signing_keys::Options { allow_internal: sources.allow_internal, ..signing_keys::Options::default() };
    let metrics = signing_keys::Metrics::register(registry)?;
    SigningKeyRefresher::load(&sources.urls, options, metrics)
        .await
        .map_err(|why| AppError::Setting(format!("credentials.derived_tokens.jwt.signing_keys.urls: {why}")))
}
