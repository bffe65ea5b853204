//! `secrets`: what signs and checks credentials. Never printed.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::credentials::read_end;
use super::load::Problems;
use crate::credential::Retired;

const SECRET_MIN: usize = 32;

/// What signs and checks credentials.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// The secrets behind checksums, macaroons and page tokens.
    pub hmac: HmacConfig,
}

/// The secrets behind checksums, macaroons and page tokens.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HmacConfig {
    /// Signs and checks; 32 characters or more. Required. Changing it without retiring the old one ends every issued key.
    #[schemars(with = "String", length(min = 32))]
    pub current: SecretString,
    /// Only check; 32 characters or more each.
    pub retired: Vec<RetiredSecret>,
}

/// A secret that only checks: a text, good for ever, or a text with an end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RetiredSecret {
    /// Good for ever.
    Plain(#[schemars(with = "String", length(min = 32))] SecretString),
    /// Good until its end.
    Expiring(ExpiringSecret),
}

/// A secret with an end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiringSecret {
    /// The secret.
    #[schemars(with = "String", length(min = 32))]
    pub value: SecretString,
    /// RFC 3339; the secret counts strictly before it.
    pub expires_at: Option<String>,
}

impl RetiredSecret {
    /// The entry with its end read, or `None` when the end is no time.
    pub fn read(&self) -> Option<Retired<SecretString>> {
        match self {
            Self::Plain(value) => Some(Retired { value: value.clone(), expires_at: None }),
            Self::Expiring(ExpiringSecret { value, expires_at }) => {
                Some(Retired { value: value.clone(), expires_at: read_end(expires_at.as_deref())? })
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
                None => problems.add(&path, "has an expires_at that is no RFC 3339 time"),
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
