//! Settings of the write side.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::credential::{Keyring, Routing, SigningKeys};

/// The shortest lifetime of keys and tokens.
pub(super) const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest lifetime of keys and tokens, whatever is configured.
pub(super) const TTL_MAX: Duration = Duration::from_secs(315_360_000);

/// Settings of new keys and tokens.
#[derive(Debug)]
pub struct Settings {
    /// The secrets that sign new keys, macaroons and page tokens.
    pub keyring: Arc<Keyring>,
    /// Recognises texts that cannot be imported, because they look like issued keys or derived tokens.
    pub routing: Routing,
    /// The prefix of secret keys.
    pub prefix: String,
    /// The prefix of public keys; if absent, none can be issued.
    pub public_prefix: Option<String>,
    /// The default lifetime of a key; if absent, a request must name one.
    pub default_ttl: Option<Duration>,
    /// The maximum lifetime of keys and tokens; zero means no limit.
    pub max_ttl: Duration,
    /// The maximum number of active keys of a tenant; no limit if absent.
    pub quota: Option<u64>,
    /// Settings of derived tokens.
    pub derived: DerivedSettings,
}

/// Settings of derived tokens.
#[derive(Debug, Default)]
pub struct DerivedSettings {
    /// The `iss` claim.
    pub issuer: String,
    /// The default lifetime.
    pub default_ttl: Duration,
    /// The prefix of macaroons.
    pub macaroon_prefix: String,
    /// The `kid` of the key that signs JWTs; if empty, the first key that can sign.
    pub signing_key_id: String,
    /// The keys that sign JWTs.
    pub signing_keys: Arc<ArcSwap<SigningKeys>>,
}
