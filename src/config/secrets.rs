//! `secrets`: the secrets that sign and verify credentials. They are never printed.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::credentials::parse_expiry;
use super::problems::Problems;
use super::redact;
use crate::credential::Retired;

const SECRET_MIN: usize = 32;

/// Secrets that sign and verify credentials.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// Secrets of key checksums, macaroons and page tokens.
    pub hmac: HmacConfig,
}

/// Secrets of key checksums, macaroons and page tokens.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HmacConfig {
    /// Signs and verifies; 32 characters or more. Required. Changing it without adding the old one to `retired` invalidates
    /// every issued key.
    #[schemars(with = "String", length(min = 32))]
    #[serde(serialize_with = "redact::secret")]
    pub current: SecretString,
    /// Path of a file with `current` instead. It is read again when it changes.
    pub current_file: Option<PathBuf>,
    /// Verify only; 32 characters or more each.
    pub retired: Vec<RetiredSecret>,
    /// Paths of files with further retired secrets, one in each. They are read again when they change.
    pub retired_files: Vec<PathBuf>,
}

/// A retired secret: still verifies, but does not sign. A text, or a mapping with an expiry time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RetiredSecret {
    /// Accepted without time limit.
    Plain(
        #[schemars(with = "String", length(min = 32))]
        #[serde(serialize_with = "redact::secret")]
        SecretString,
    ),
    /// Accepted until it expires.
    Expiring(ExpiringSecret),
}

/// A retired secret with an expiry time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiringSecret {
    /// The secret.
    #[schemars(with = "String", length(min = 32))]
    #[serde(serialize_with = "redact::secret")]
    pub value: SecretString,
    /// RFC 3339 time. The secret is accepted strictly before it.
    pub expires_at: Option<String>,
}

impl RetiredSecret {
    /// The secret with its parsed expiry time; `None` if the time is invalid.
    pub fn read(&self) -> Option<Retired<SecretString>> {
        match self {
            Self::Plain(value) => Some(Retired { value: value.clone(), expires_at: None }),
            Self::Expiring(ExpiringSecret { value, expires_at }) => {
                Some(Retired { value: value.clone(), expires_at: parse_expiry(expires_at.as_deref())? })
            }
        }
    }
}

impl SecretsConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require("secrets.hmac.current", self.hmac.current.expose_secret());
        check_length("secrets.hmac.current", &self.hmac.current, problems);
        for (index, entry) in self.hmac.retired.iter().enumerate() {
            let path = format!("secrets.hmac.retired.{index}");
            match entry.read() {
                Some(retired) => check_length(&path, &retired.value, problems),
                None => problems.add(&path, "has an expires_at that is not an RFC 3339 time"),
            }
        }
    }
}

fn check_length(path: &str, secret: &SecretString, problems: &mut Problems) {
    let length = secret.expose_secret().chars().count();
    if length < SECRET_MIN {
        problems.add_first(path, "must have 32 characters or more; `openssl rand -hex 32` makes a good one");
    }
}
