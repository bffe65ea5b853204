//! Checks that the secrets of the other installation are accepted here, before a key is copied.

use std::path::Path;

use anyhow::{anyhow, bail};
use secrecy::ExposeSecret;

use super::source::Source;
use crate::app::{KeyMigration, PageTokenOrigin};
use crate::cli::connection::read_key_file;

/// Which checks are made.
pub(super) struct Checks<'a> {
    /// A file with a valid key of the other installation.
    pub(super) credential_file: Option<&'a Path>,
    /// Whether keys are copied although nothing proves that the secrets are the same.
    pub(super) unproven_secret: bool,
}

impl Checks<'_> {
    /// Makes the checks.
    pub(super) fn run(&self, source: &Source, migration: &KeyMigration) -> anyhow::Result<()> {
        let by_credential = match self.credential_file {
            Some(file) => check_credential(file, source, migration)?,
            None => false,
        };
        // A page token is sealed by a key that is derived from the HMAC secret.
        let (token, has_keys) = source.page_token()?;
        match token.map(|token| migration.origin_of_page_token(&token)) {
            Some(PageTokenOrigin::SameSecret) => return Ok(()),
            Some(PageTokenOrigin::OtherTenant) => {
                bail!("the other installation lists the keys of another tenant; the ids of imported keys depend on it")
            }
            Some(PageTokenOrigin::Unknown) | None => {}
        }
        if by_credential || !has_keys {
            return Ok(());
        }
        if self.unproven_secret {
            eprintln!("Warning: it is not proven that the secrets of issued keys are accepted here.");
            return Ok(());
        }
        bail!(
            "it is not proven that secrets.hmac of the configuration is the secret of the other installation, without which no issued key is \
             accepted here; give a valid issued key of it in --credential-file, or set --unproven-secret"
        )
    }
}

/// Checks a key that is valid in the other installation. Returns whether it proves the HMAC secret, which an imported key does not.
fn check_credential(file: &Path, source: &Source, migration: &KeyMigration) -> anyhow::Result<bool> {
    let credential = read_key_file("--credential-file", file)?;
    let verified = source.verify(credential.expose_secret())?;
    if verified["is_valid"] != true {
        let code = verified["error_code"].as_str().unwrap_or("no error code");
        bail!("--credential-file: the other installation does not accept the key ({code}); give a valid one");
    }
    let (key_id, is_issued) = migration.identify(&credential).map_err(|why| {
        anyhow!(
            "--credential-file: the configuration does not accept the key: {why}; compare secrets.hmac and credentials.api_keys (prefix, \
             max_ttl) with those of the other installation"
        )
    })?;
    if verified["key_id"] != *key_id {
        bail!("--credential-file: the key has another id here, because the other installation has another tenant");
    }
    let issuer = verified["issuer"].as_str().unwrap_or_default();
    if !issuer.is_empty() && !migration.accepts_issuer(issuer) {
        eprintln!(
            "Warning: tokens that were derived there have the issuer {issuer:?}, which is not in credentials.issuer or issuer_retired."
        );
    }
    Ok(is_issued)
}
