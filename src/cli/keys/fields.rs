//! Conversion of arguments to request members.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::duration::parse_extended;

/// The members of a request body.
pub(super) type Body = Map<String, Value>;

/// Fields that can be set when a key is created and when it is updated.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// Comma-separated scopes
    #[arg(long, value_name = "A,B")]
    pub(super) scopes: Option<Vec<String>>,
    /// A JSON object to store with the key, for example '{"team":"orders"}'
    #[arg(long, value_name = "JSON")]
    pub(super) metadata: Option<String>,
    /// Comma-separated client networks that may use the key, for example 10.0.0.0/8
    #[arg(long, value_name = "CIDR,CIDR")]
    pub(super) allowed_cidrs: Option<Vec<String>>,
    /// Requests per rate-limit window
    #[arg(long, value_name = "NUMBER")]
    pub(super) rate_limit_quota: Option<u64>,
    /// Length of the rate-limit window, for example 60s or 1h
    #[arg(long, value_name = "DURATION", requires = "rate_limit_quota", value_parser = window)]
    pub(super) rate_limit_window: Option<String>,
}

/// `jwt` or `macaroon`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Algorithm {
    /// A signed JWT, which can be verified with the public key
    Jwt,
    /// A macaroon, which only Keygate can verify
    Macaroon,
}

impl Fields {
    /// The members of a request to create a key. Empty fields are left out.
    pub(super) fn body(&self) -> anyhow::Result<Body> {
        if self.rate_limit_quota == Some(0) {
            bail!("--rate-limit-quota must be greater than 0; omit it for a key without a limit");
        }
        let mut body = Body::new();
        if let Some(scopes) = self.scopes() {
            body.insert("scopes".into(), scopes.into());
        }
        if let Some(text) = self.metadata.as_deref().filter(|text| !text.trim().is_empty()) {
            body.insert("metadata".into(), object("--metadata", text)?);
        }
        if let Some(cidrs) = self.cidrs().filter(|cidrs| !cidrs.is_empty()) {
            body.insert("ip_restriction".into(), json!({ "allowed_cidrs": cidrs }));
        }
        if let Some(policy) = self.policy() {
            body.insert("rate_limit_policy".into(), policy);
        }
        Ok(body)
    }

    pub(super) fn scopes(&self) -> Option<Vec<String>> {
        self.scopes.as_deref().map(list)
    }

    pub(super) fn cidrs(&self) -> Option<Vec<String>> {
        self.allowed_cidrs.as_deref().map(list)
    }

    pub(super) fn policy(&self) -> Option<Value> {
        let quota = self.rate_limit_quota?;
        Some(match &self.rate_limit_window {
            Some(window) => json!({ "quota": quota.to_string(), "window": window }),
            None => json!({ "quota": quota.to_string() }),
        })
    }
}

impl Algorithm {
    pub(super) fn wire_name(self) -> &'static str {
        match self {
            Self::Jwt => "TOKEN_ALGORITHM_JWT",
            Self::Macaroon => "TOKEN_ALGORITHM_MACAROON",
        }
    }
}

/// Splits the values of a repeatable flag at commas.
pub(in crate::cli) fn list(texts: &[String]) -> Vec<String> {
    let items = texts.iter().flat_map(|text| text.split(','));
    items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Parses a JSON object.
pub(super) fn object(flag: &str, text: &str) -> anyhow::Result<Value> {
    let value: Value = serde_json::from_str(text)
        .with_context(|| format!("{flag} is not valid JSON; use for example '{{\"a\":\"b\"}}'"))?;
    if value.is_object() { Ok(value) } else { bail!("{flag} must be a JSON object, for example '{{\"a\":\"b\"}}'") }
}

/// Validates a `ttl` before it is sent as text; empty means none.
pub(in crate::cli) fn ttl(text: &str) -> Result<String, &'static str> {
    let valid = text.is_empty() || parse_extended(text).is_ok();
    if valid { Ok(text.to_owned()) } else { Err("is not a duration; use for example 90s, 1h30m, 30d, 2w, 6mo or 1y") }
}

/// Validates the time that a rotated key stays active, before it is sent as text.
pub(super) fn overlap(text: &str) -> Result<String, &'static str> {
    if parse_extended(text).is_ok() { Ok(text.to_owned()) } else { Err("is not a duration; use for example 24h or 7d") }
}

/// Converts a rate-limit window to the decimal seconds of the API.
fn window(text: &str) -> Result<String, &'static str> {
    let window = parse_extended(text).map_err(|_| "is not a duration; use for example 60s, 5m or 1h")?;
    if window < Duration::from_secs(1) {
        return Err("must be at least 1s");
    }
    let fraction = format!(".{:09}", window.subsec_nanos());
    Ok(format!("{}{}s", window.as_secs(), fraction.trim_end_matches('0').trim_end_matches('.')))
}

/// Parses a short or full reason name, case-insensitively; empty means unspecified.
pub(super) fn reason(text: &str) -> Result<String, String> {
    const REASONS: &[&str] =
        &["UNSPECIFIED", "KEY_COMPROMISE", "AFFILIATION_CHANGED", "SUPERSEDED", "PRIVILEGE_WITHDRAWN"];
    if text.is_empty() {
        return Ok("REVOCATION_REASON_UNSPECIFIED".into());
    }
    full_name("REVOCATION_REASON_", REASONS, text)
}

/// Parses a short or full status name, case-insensitively.
pub(super) fn status(text: &str) -> Result<String, String> {
    full_name("KEY_STATUS_", &["ACTIVE", "REVOKED", "EXPIRED"], text)
}

fn full_name(prefix: &str, names: &[&str], text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_uppercase().replace('-', "_");
    let short = name.strip_prefix(prefix).unwrap_or(&name);
    if names.contains(&short) {
        return Ok(format!("{prefix}{short}"));
    }
    Err(format!("use one of {}", names.join(", ").to_ascii_lowercase()))
}

/// A credential from an argument, or from stdin for `-`, which keeps it out of the process list.
pub(in crate::cli) fn credential(argument: &SecretString) -> anyhow::Result<SecretString> {
    if argument.expose_secret() != "-" {
        return Ok(argument.clone());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => bail!("no credential on stdin"),
        credential => Ok(credential.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_and_status_names_are_case_insensitive_and_the_prefix_is_optional() {
        for text in ["key_compromise", "KEY_COMPROMISE", "key-compromise", "Revocation_Reason_Key_Compromise"] {
            assert_eq!(reason(text).as_deref(), Ok("REVOCATION_REASON_KEY_COMPROMISE"), "{text}");
        }
        assert_eq!(reason("").as_deref(), Ok("REVOCATION_REASON_UNSPECIFIED"));
        assert!(reason("compromise").unwrap_err().contains("key_compromise"));
        assert_eq!(status("active").as_deref(), Ok("KEY_STATUS_ACTIVE"));
        assert_eq!(status("KEY_STATUS_REVOKED").as_deref(), Ok("KEY_STATUS_REVOKED"));
        assert!(status("unspecified").is_err() && status("").is_err());
    }

    #[test]
    fn windows_are_converted_to_seconds() {
        for (text, expected) in [("60s", "60s"), ("1m", "60s"), ("1h30m", "5400s"), ("1.5s", "1.5s"), ("1d", "86400s")]
        {
            assert_eq!(window(text).as_deref(), Ok(expected));
        }
        assert!(window("500ms").is_err() && window("60").is_err());
    }

    #[test]
    fn lists_are_split_at_commas_and_trimmed() {
        assert_eq!(list(&["a, b".into(), ",c,".into()]), ["a", "b", "c"]);
        assert!(list(&[String::new()]).is_empty());
    }

    #[test]
    fn invalid_ttl_is_rejected_before_it_is_sent() {
        for valid in ["", "90s", "1h30m", "30d", "2w", "6mo", "1y"] {
            assert_eq!(ttl(valid).as_deref(), Ok(valid));
        }
        for invalid in ["1", "1 day", "1.5d", "-1h"] {
            assert!(ttl(invalid).unwrap_err().contains("30d"));
        }
    }

    #[test]
    fn only_json_objects_are_accepted() {
        assert_eq!(object("--metadata", r#"{"a":1}"#).unwrap(), json!({"a": 1}));
        for invalid in ["", "[]", "1", "{", "null"] {
            let error = object("--metadata", invalid).unwrap_err().to_string();
            assert!(error.starts_with("--metadata"), "{invalid}: {error}");
        }
    }
}
