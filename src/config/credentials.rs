//! `credentials`: how credentials look and how long they live.

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;
use crate::clock::Timestamp;
use crate::credential::Retired;
use crate::duration::ConfigDuration;

const HOUR: u64 = 3600;
const CLOCK_SKEW_MAX: u64 = 600;

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
    /// Tokens derived from keys. Not available in this version.
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
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SigningKeysConfig {
    /// JWK sets: `base64://`, `file://` or `https://`.
    pub urls: Vec<String>,
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
        Self { default_ttl: of_seconds(HOUR), jwt: JwtConfig::default(), macaroon: MacaroonConfig::default() }
    }
}

impl Default for MacaroonPrefixConfig {
    fn default() -> Self {
        Self { current: "mc".into(), retired: Vec::new() }
    }
}

impl CredentialsConfig {
    /// How far ahead of the clock a credential's time may be: an unset skew is the default, a large one the maximum.
    pub fn effective_clock_skew(&self) -> std::time::Duration {
        if self.clock_skew.0.is_zero() { Self::default().clock_skew.0 } else { self.clock_skew.0 }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.clock_skew.0.as_secs() > CLOCK_SKEW_MAX {
            problems.add("credentials.clock_skew", "must be at most 600s");
        }
        for (index, entry) in self.issuer_retired.iter().enumerate() {
            problems.check_retired(&format!("credentials.issuer_retired.{index}"), entry);
        }
        let macaroons = self.macaroon_prefixes();
        for prefix in self.api_keys.prefix.all().iter().filter(|prefix| macaroons.contains(prefix)) {
            problems.add(
                "credentials.api_keys.prefix",
                &format!("has {prefix:?}, which is a macaroon prefix too; such keys could never be verified"),
            );
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
        std::iter::once(&self.current)
            .chain(&self.retired)
            .chain(&self.public_current)
            .chain(&self.public_retired)
            .cloned()
            .collect()
    }
}

impl RetiredValue {
    /// The entry with its end read, or `None` when the end is no time.
    pub fn read(&self) -> Option<Retired<&str>> {
        match self {
            Self::Plain(value) => Some(Retired { value, expires_at: None }),
            Self::Expiring(ExpiringValue { value, expires_at }) => {
                let expires_at = match expires_at {
                    Some(text) => Some(Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).ok()?)),
                    None => None,
                };
                Some(Retired { value, expires_at })
            }
        }
    }
}

fn of_seconds(seconds: u64) -> ConfigDuration {
    ConfigDuration(std::time::Duration::from_secs(seconds))
}
