//! From the texts of arguments to members of requests.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::duration::parse_extended;

/// A request's members.
pub(super) type Body = Map<String, Value>;

/// What a key may be given, when it is made and later.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// Scopes, separated by commas
    #[arg(long, value_name = "A,B")]
    pub(super) scopes: Option<Vec<String>>,
    /// A JSON object to keep with the key, such as '{"team":"orders"}'
    #[arg(long, value_name = "JSON")]
    pub(super) metadata: Option<String>,
    /// Networks the key may be used from, separated by commas, such as 10.0.0.0/8
    #[arg(long, value_name = "CIDR,CIDR")]
    pub(super) allowed_cidrs: Option<Vec<String>>,
    /// How many requests the key has in each window
    #[arg(long, value_name = "NUMBER")]
    pub(super) rate_limit_quota: Option<u64>,
    /// How long a window is, such as 60s or 1h
    #[arg(long, value_name = "DURATION", requires = "rate_limit_quota", value_parser = window)]
    pub(super) rate_limit_window: Option<String>,
}

/// `jwt` or `macaroon`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Algorithm {
    /// A signed JSON web token, which anybody can check
    Jwt,
    /// A macaroon, which Keygate can check
    Macaroon,
}

impl Fields {
    /// The members of a new key's request. What is empty is left out.
    pub(super) fn body(&self) -> anyhow::Result<Body> {
        if self.rate_limit_quota == Some(0) {
            bail!("--rate-limit-quota must be above 0; leave it out for a key without a limit");
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

/// Items, each separated from the next by a comma or by the flag's name.
pub(super) fn list(texts: &[String]) -> Vec<String> {
    let items = texts.iter().flat_map(|text| text.split(','));
    items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A JSON object.
pub(super) fn object(flag: &str, text: &str) -> anyhow::Result<Value> {
    let value: Value = serde_json::from_str(text)
        .with_context(|| format!("{flag} is no JSON; write for example '{{\"a\":\"b\"}}'"))?;
    if value.is_object() { Ok(value) } else { bail!("{flag} must be a JSON object, such as '{{\"a\":\"b\"}}'") }
}

/// A `ttl`, which the server reads again; empty for none.
pub(super) fn ttl(text: &str) -> Result<String, &'static str> {
    let good = text.is_empty() || parse_extended(text).is_ok();
    if good { Ok(text.to_owned()) } else { Err("is no duration; write for example 90s, 1h30m, 30d, 2w, 6mo or 1y") }
}

/// A rate limit's window, in the decimal seconds that the server wants.
fn window(text: &str) -> Result<String, &'static str> {
    let window = parse_extended(text).map_err(|_| "is no duration; write for example 60s, 5m or 1h")?;
    if window < Duration::from_secs(1) {
        return Err("must be 1s or more");
    }
    let fraction = format!(".{:09}", window.subsec_nanos());
    Ok(format!("{}{}s", window.as_secs(), fraction.trim_end_matches('0').trim_end_matches('.')))
}

/// A reason by its short or full name, in any case; empty is unspecified.
pub(super) fn reason(text: &str) -> Result<String, String> {
    const REASONS: &[&str] =
        &["UNSPECIFIED", "KEY_COMPROMISE", "AFFILIATION_CHANGED", "SUPERSEDED", "PRIVILEGE_WITHDRAWN"];
    if text.is_empty() {
        return Ok("REVOCATION_REASON_UNSPECIFIED".into());
    }
    full_name("REVOCATION_REASON_", REASONS, text)
}

/// A status by its short or full name, in any case.
pub(super) fn status(text: &str) -> Result<String, String> {
    full_name("KEY_STATUS_", &["ACTIVE", "REVOKED", "EXPIRED"], text)
}

fn full_name(prefix: &str, names: &[&str], text: &str) -> Result<String, String> {
    let wanted = text.trim().to_ascii_uppercase().replace('-', "_");
    let short = wanted.strip_prefix(prefix).unwrap_or(&wanted);
    if names.contains(&short) {
        return Ok(format!("{prefix}{short}"));
    }
    Err(format!("write one of {}", names.join(", ").to_ascii_lowercase()))
}

/// A credential from the arguments, or from stdin for `-`, so that it need not be in the list of processes.
pub(super) fn credential(argument: &SecretString) -> anyhow::Result<SecretString> {
    if argument.expose_secret() != "-" {
        return Ok(argument.clone());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("stdin cannot be read")?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => bail!("there is no credential on stdin"),
        credential => Ok(credential.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_short_and_full_in_any_case() {
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
    fn windows_become_seconds() {
        for (text, expected) in [("60s", "60s"), ("1m", "60s"), ("1h30m", "5400s"), ("1.5s", "1.5s"), ("1d", "86400s")]
        {
            assert_eq!(window(text).as_deref(), Ok(expected));
        }
        assert!(window("500ms").is_err() && window("60").is_err());
    }

    #[test]
    fn lists_are_split_and_trimmed() {
        assert_eq!(list(&["a, b".into(), ",c,".into()]), ["a", "b", "c"]);
        assert!(list(&[String::new()]).is_empty());
    }

    #[test]
    fn lifetimes_are_judged_before_they_are_sent() {
        for good in ["", "90s", "1h30m", "30d", "2w", "6mo", "1y"] {
            assert_eq!(ttl(good).as_deref(), Ok(good));
        }
        for bad in ["1", "1 day", "1.5d", "-1h"] {
            assert!(ttl(bad).unwrap_err().contains("30d"));
        }
    }

    #[test]
    fn objects_are_objects() {
        assert_eq!(object("--metadata", r#"{"a":1}"#).unwrap(), json!({"a": 1}));
        for bad in ["", "[]", "1", "{", "null"] {
            assert!(object("--metadata", bad).unwrap_err().to_string().starts_with("--metadata"), "{bad}");
        }
    }
}
