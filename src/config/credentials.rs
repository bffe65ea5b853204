//! `credentials`: how credentials look and how long they live.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;
use crate::clock::Timestamp;
use crate::credential::Retired;
use crate::duration::ConfigDuration;

const HOUR: u64 = 3600;
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);

/// How credentials look and how long they live.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialsConfig {
    /// The name of this issuer, usually a URL. Required.
    pub issuer: String,
    /// Earlier names that derived tokens may still carry.
    pub issuer_retired: Vec<RetiredValue>,
    /// How far clocks may be apart, at most 600s.
    pub clock_skew: ConfigDuration,
    /// Issued and imported keys.
    pub api_keys: ApiKeysConfig,
    /// Tokens derived from keys.
    pub derived_tokens: DerivedTokensConfig,
}

/// Issued and imported keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeysConfig {
    /// The life of a key whose caller names none.
    pub default_ttl: ConfigDuration,
    /// The longest life, also by the time inside a key; `0s` for no limit.
    pub max_ttl: ConfigDuration,
    /// What issued keys begin with.
    pub prefix: PrefixConfig,
}

/// What issued keys begin with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrefixConfig {
    /// The prefix of new secret keys, 1 to 16 of `A-Z a-z 0-9 _`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,16}$"))]
    pub current: String,
    /// Prefixes of secret keys that are still good.
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9_]{1,16}$")))]
    pub retired: Vec<String>,
    /// The prefix of new public keys; none are issued without one.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,16}$"))]
    pub public_current: Option<String>,
    /// Prefixes of public keys that are still good.
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9_]{1,16}$")))]
    pub public_retired: Vec<String>,
}

/// Tokens derived from keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DerivedTokensConfig {
    /// The life of a token whose caller names none.
    pub default_ttl: ConfigDuration,
    /// Whether the gateway refuses a token whose parent was revoked or deleted. `:verify` lets it live until its end.
    pub revoke_with_parent: bool,
    /// Signed tokens.
    pub jwt: JwtConfig,
    /// Chained tokens.
    pub macaroon: MacaroonConfig,
}

/// Signed tokens.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// The `kid` of the key that signs; the first usable one when empty.
    pub signing_key_id: String,
    /// Where signing keys come from.
    pub signing_keys: SigningKeysConfig,
}

/// Where signing keys come from.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SigningKeysConfig {
    /// JWK sets with the private keys that sign: `base64://`, `file://`, `https://`, or `http://` with a warning.
    pub urls: Vec<String>,
    /// Whether `https://` and `http://` sources may be at internal addresses.
    pub allow_internal: bool,
}

/// Chained tokens.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MacaroonConfig {
    /// What macaroons begin with.
    pub prefix: MacaroonPrefixConfig,
}

/// What macaroons begin with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MacaroonPrefixConfig {
    /// The prefix of new macaroons, 1 to 8 of `A-Z a-z 0-9 _`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,8}$"))]
    pub current: String,
    /// Prefixes of macaroons that are still good.
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9_]{1,8}$")))]
    pub retired: Vec<String>,
}

/// A value that only checks: a text, good for ever, or a text with an end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RetiredValue {
    /// Good for ever.
    Plain(String),
    /// Good until its end.
    Expiring(ExpiringValue),
}

/// A value with an end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiringValue {
    /// The value.
    pub value: String,
    /// RFC 3339; the value counts strictly before it.
    pub expires_at: Option<String>,
}

impl Default for CredentialsConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            issuer_retired: Vec::new(),
            clock_skew: of_seconds(300),
            api_keys: ApiKeysConfig::default(),
            derived_tokens: DerivedTokensConfig::default(),
        }
    }
}

impl Default for ApiKeysConfig {
    fn default() -> Self {
        Self { default_ttl: of_seconds(2160 * HOUR), max_ttl: of_seconds(8760 * HOUR), prefix: PrefixConfig::default() }
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
            default_ttl: of_seconds(HOUR),
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
    /// A `base64://` source is the private keys themselves, and others may have a password: only schemes are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme =
            |url: &String| url.split_once("://").map_or_else(String::new, |(scheme, _)| format!("{scheme}://"));
        let urls: Vec<_> = self.urls.iter().map(|url| format!("{}[REDACTED]", scheme(url))).collect();
        f.debug_struct("SigningKeysConfig").field("urls", &urls).field("allow_internal", &self.allow_internal).finish()
    }
}

impl CredentialsConfig {
    /// How far ahead of the clock a credential's time may be: an unset skew is the default, a large one the maximum.
    pub fn effective_clock_skew(&self) -> Duration {
        if self.clock_skew.0.is_zero() { Self::default().clock_skew.0 } else { self.clock_skew.0 }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require("credentials.issuer", &self.issuer);
        if self.clock_skew.0 > CLOCK_SKEW_MAX {
            problems.add("credentials.clock_skew", "must be at most 600s");
        }
        for (index, entry) in self.issuer_retired.iter().enumerate() {
            problems.check_retired(&format!("credentials.issuer_retired.{index}"), entry);
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
        for (path, prefix) in self.api_keys.prefix.with_paths() {
            if macaroons.iter().any(|macaroon| macaroon == prefix) {
                problems.add(
                    &format!("credentials.api_keys.prefix.{path}"),
                    "is a macaroon prefix too, so such keys could never be verified; use another one for either",
                );
            }
        }
    }

    /// All prefixes that macaroons may have.
    pub fn macaroon_prefixes(&self) -> Vec<String> {
        let prefix = &self.derived_tokens.macaroon.prefix;
        std::iter::once(&prefix.current).chain(&prefix.retired).cloned().collect()
    }
}

impl PrefixConfig {
    /// All prefixes that issued keys may have.
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
    /// The entry with its end read, or `None` when the end is no time.
    pub fn read(&self) -> Option<Retired<&str>> {
        match self {
            Self::Plain(value) => Some(Retired { value, expires_at: None }),
            Self::Expiring(ExpiringValue { value, expires_at }) => {
                Some(Retired { value, expires_at: read_end(expires_at.as_deref())? })
            }
        }
    }
}

/// The end of a retired value; the outer `None` is a text that is no time.
#[expect(clippy::option_option, reason = "unreadable and absent are different things")]
pub(super) fn read_end(text: Option<&str>) -> Option<Option<Timestamp>> {
    match text {
        Some(text) => chrono::DateTime::parse_from_rfc3339(text).ok().map(|end| Some(end.into())),
        None => Some(None),
    }
}

fn of_seconds(seconds: u64) -> ConfigDuration {
    ConfigDuration(Duration::from_secs(seconds))
}
