//! `credentials`: prefixes, lifetimes and token settings.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::redact;
use crate::clock::Timestamp;
use crate::credential::{ADMIN_PREFIX, Retired};
use crate::duration::ConfigDuration;

const HOUR: u64 = 3600;
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);

/// Credentials: prefixes, lifetimes, token settings.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialsConfig {
    /// The issuer's name, usually a URL: the `iss` of derived tokens. Required.
    pub issuer: String,
    /// Earlier issuer names that are still accepted in derived tokens.
    pub issuer_retired: Vec<RetiredValue>,
    /// Accepted clock skew, at most 600s.
    pub clock_skew: ConfigDuration,
    /// Issued and imported keys.
    pub api_keys: ApiKeysConfig,
    /// Tokens derived from keys.
    pub derived_tokens: DerivedTokensConfig,
}

/// Issued and imported keys.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeysConfig {
    /// Lifetime of keys that are issued without one.
    pub default_ttl: ConfigDuration,
    /// Maximum lifetime. Also enforced from the creation time inside issued keys; `0s` for no limit.
    pub max_ttl: ConfigDuration,
    /// Prefixes of issued keys.
    pub prefix: PrefixConfig,
}

/// Prefixes of issued keys.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrefixConfig {
    /// Prefix of new secret keys, 1 to 16 of `A-Z a-z 0-9 _`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,16}$"))]
    pub current: String,
    /// Further prefixes of secret keys that are accepted.
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9_]{1,16}$")))]
    pub retired: Vec<String>,
    /// Prefix of new public keys. Public keys cannot be issued without it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,16}$"))]
    pub public_current: Option<String>,
    /// Further prefixes of public keys that are accepted.
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9_]{1,16}$")))]
    pub public_retired: Vec<String>,
}

/// Tokens derived from keys.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DerivedTokensConfig {
    /// Lifetime of tokens that are derived without one.
    pub default_ttl: ConfigDuration,
    /// Whether the gateway rejects, and introspection reports as inactive, tokens whose parent key was revoked or deleted. `:verify`
    /// accepts them until they expire.
    pub revoke_with_parent: bool,
    /// JWTs.
    pub jwt: JwtConfig,
    /// Macaroons.
    pub macaroon: MacaroonConfig,
}

/// JWTs.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// `kid` of the key that signs; the first usable key when empty.
    pub signing_key_id: String,
    /// Sources of signing keys.
    pub signing_keys: SigningKeysConfig,
}

/// Sources of signing keys.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SigningKeysConfig {
    /// URLs of JWK sets with private keys: `base64://`, `file://`, `https://`, or `http://` with a warning.
    #[serde(serialize_with = "redact::urls")]
    pub urls: Vec<String>,
    /// Whether `https://` and `http://` sources may have internal addresses.
    pub allow_internal: bool,
}

/// Macaroons.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MacaroonConfig {
    /// Prefixes of macaroons.
    pub prefix: MacaroonPrefixConfig,
    /// What happens to a macaroon with a further caveat that has a member which Keygate does not apply.
    pub unknown_caveats: UnknownCaveats,
}

/// What happens to a macaroon with a further caveat that has a member which Keygate does not apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownCaveats {
    /// It is rejected: the caveat was added to restrict the macaroon.
    #[default]
    Deny,
    /// The member is ignored.
    Ignore,
}

/// Prefixes of macaroons.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MacaroonPrefixConfig {
    /// Prefix of new macaroons, 1 to 8 of `A-Z a-z 0-9 _`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,8}$"))]
    pub current: String,
    /// Further prefixes of macaroons that are accepted.
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9_]{1,8}$")))]
    pub retired: Vec<String>,
}

/// A retired value: still accepted, but not used for new credentials. A text, or a mapping with an expiry time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RetiredValue {
    /// Accepted without time limit.
    Plain(String),
    /// Accepted until it expires.
    Expiring(ExpiringValue),
}

/// A retired value with an expiry time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiringValue {
    /// The value.
    pub value: String,
    /// RFC 3339 time. The value is accepted strictly before it.
    pub expires_at: Option<String>,
}

impl Default for CredentialsConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            issuer_retired: Vec::new(),
            clock_skew: seconds(300),
            api_keys: ApiKeysConfig::default(),
            derived_tokens: DerivedTokensConfig::default(),
        }
    }
}

impl Default for ApiKeysConfig {
    fn default() -> Self {
        Self { default_ttl: seconds(2160 * HOUR), max_ttl: seconds(8760 * HOUR), prefix: PrefixConfig::default() }
    }
}

impl Default for PrefixConfig {
    fn default() -> Self {
        Self { current: "ory_ak".into(), retired: Vec::new(), public_current: None, public_retired: Vec::new() }
    }
}

impl Default for DerivedTokensConfig {
    fn default() -> Self {
        Self {
            default_ttl: seconds(HOUR),
            revoke_with_parent: true,
            jwt: JwtConfig::default(),
            macaroon: MacaroonConfig::default(),
        }
    }
}

impl Default for MacaroonPrefixConfig {
    fn default() -> Self {
        Self { current: "mc".into(), retired: Vec::new() }
    }
}

impl fmt::Debug for SigningKeysConfig {
    /// Shows schemes only: a `base64://` URL contains private keys, and others may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme =
            |url: &String| url.split_once("://").map_or_else(String::new, |(scheme, _)| format!("{scheme}://"));
        let urls: Vec<_> = self.urls.iter().map(|url| format!("{}[REDACTED]", scheme(url))).collect();
        f.debug_struct("SigningKeysConfig").field("urls", &urls).field("allow_internal", &self.allow_internal).finish()
    }
}

impl CredentialsConfig {
    /// The clock skew that applies: zero means the default.
    pub fn effective_clock_skew(&self) -> Duration {
        if self.clock_skew.0.is_zero() { Self::default().clock_skew.0 } else { self.clock_skew.0 }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require("credentials.issuer", &self.issuer);
        if self.clock_skew.0 > CLOCK_SKEW_MAX {
            problems.add("credentials.clock_skew", "must be at most 600s");
        }
        for (index, entry) in self.issuer_retired.iter().enumerate() {
            if entry.read().is_none() {
                problems.add(
                    &format!("credentials.issuer_retired.{index}"),
                    "has an expires_at that is not an RFC 3339 time",
                );
            }
        }
        for (index, url) in self.derived_tokens.jwt.signing_keys.urls.iter().enumerate() {
            if !["base64://", "file:///", "https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
                problems.add(
                    &format!("credentials.derived_tokens.jwt.signing_keys.urls.{index}"),
                    "must begin with base64://, file:///, https:// or http://",
                );
            }
        }
        let macaroons = self.macaroon_prefixes();
        if macaroons.iter().any(|prefix| prefix == ADMIN_PREFIX) {
            problems.add(
                "credentials.derived_tokens.macaroon.prefix",
                "has the reserved prefix of admin keys, kg_admin; choose another one",
            );
        }
        for (path, prefix) in self.api_keys.prefix.with_paths() {
            if prefix == ADMIN_PREFIX {
                problems.add(
                    &format!("credentials.api_keys.prefix.{path}"),
                    "is the reserved prefix of admin keys; choose another one",
                );
            }
            if macaroons.iter().any(|macaroon| macaroon == prefix) {
                problems.add(
                    &format!("credentials.api_keys.prefix.{path}"),
                    "is a macaroon prefix too, so such keys could never be verified; change one of them",
                );
            }
        }
    }

    /// All accepted prefixes of macaroons.
    pub fn macaroon_prefixes(&self) -> Vec<String> {
        let prefix = &self.derived_tokens.macaroon.prefix;
        std::iter::once(&prefix.current).chain(&prefix.retired).cloned().collect()
    }
}

impl PrefixConfig {
    /// All accepted prefixes of issued keys.
    pub fn all(&self) -> Vec<String> {
        self.with_paths().map(|(_, prefix)| prefix.to_owned()).collect()
    }

    /// The prefixes, each with its path below `credentials.api_keys.prefix`.
    fn with_paths(&self) -> impl Iterator<Item = (String, &str)> {
        let retired = self.retired.iter().enumerate().map(|(index, prefix)| (format!("retired.{index}"), prefix));
        let public = self.public_retired.iter().enumerate();
        std::iter::once(("current".to_owned(), &self.current))
            .chain(retired)
            .chain(self.public_current.iter().map(|prefix| ("public_current".to_owned(), prefix)))
            .chain(public.map(|(index, prefix)| (format!("public_retired.{index}"), prefix)))
            .map(|(path, prefix)| (path, prefix.as_str()))
    }
}

impl RetiredValue {
    /// The value with its parsed expiry time; `None` if the time is invalid.
    pub fn read(&self) -> Option<Retired<&str>> {
        match self {
            Self::Plain(value) => Some(Retired { value, expires_at: None }),
            Self::Expiring(ExpiringValue { value, expires_at }) => {
                Some(Retired { value, expires_at: parse_expiry(expires_at.as_deref())? })
            }
        }
    }
}

/// Parses the expiry time of a retired value. The outer `None` is an invalid time, the inner one no time.
#[expect(clippy::option_option, reason = "invalid and absent are different")]
pub(super) fn parse_expiry(text: Option<&str>) -> Option<Option<Timestamp>> {
    match text {
        Some(text) => chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| Some(time.into())),
        None => Some(None),
    }
}

fn seconds(seconds: u64) -> ConfigDuration {
    ConfigDuration(Duration::from_secs(seconds))
}
