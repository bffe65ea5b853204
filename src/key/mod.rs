//! The stored record behind a credential, and the commands that change it. Knows no storage and reads no clock; never
//! holds the secret.

mod cached_key;
mod change;
mod draft;
mod field;
mod filter;
mod interner;
mod limits;
mod page_token;
mod status;

pub use cached_key::{Actor, CachedKey, Grant};
pub use change::{KeyChange, RotateKey};
pub use draft::{KeyDraft, RevokeKey};
pub use field::{encode_text, encode_words};
pub use filter::{FilterError, KeyFilter};
pub use limits::{InvalidField, check_ranges, check_scopes};
pub use page_token::{PageTokenError, open_page_token, seal_page_token};
pub use status::{EffectiveStatus, Revocation, RevocationReason, Status};

use serde_json::{Map, Value};

use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// Free-form data that an owner keeps with a key.
pub type Metadata = Map<String, Value>;

/// A key, issued or imported (contract, admin API section 4.1).
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// Whom the key belongs to.
    pub tenant: TenantId,
    /// The id under which it is found.
    pub id: KeyId,
    /// A label for people, up to 255 characters.
    pub name: String,
    /// The owner, fixed at creation.
    pub actor_id: String,
    /// What the key may do.
    pub scopes: Scopes,
    /// The owner's own data.
    pub metadata: Metadata,
    /// Stored status; for what holds at a moment see [`ApiKey::effective_status`].
    pub status: Status,
    /// Whether the key may be shown.
    pub visibility: Visibility,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it last changed; use does not count.
    pub update_time: Timestamp,
    /// From when on it is refused; never when absent.
    pub expire_time: Option<Timestamp>,
    /// Roughly when it was last used.
    pub last_used_time: Option<Timestamp>,
    /// How often it may be used.
    pub rate_limit: Option<RateLimitPolicy>,
    /// From where it may be used; from everywhere when empty.
    pub networks: CidrSet,
    /// Raised by every change: of two copies of a record, the higher one is the truth. Begins with the microseconds since
    /// 1970, so that a key imported again after its deletion is above what was deleted.
    pub version: u64,
}

impl ApiKey {
    /// The first version of a record made at `now`.
    pub fn first_version(now: Timestamp) -> u64 {
        u64::try_from(now.timestamp_micros()).unwrap_or(1)
    }

    /// What holds at `now`. A revocation outlives the expiry.
    pub fn effective_status(&self, now: Timestamp) -> EffectiveStatus {
        EffectiveStatus::of(
            matches!(self.status, Status::Revoked(_)),
            self.expire_time.is_some_and(|expiry| now > expiry),
        )
    }
}
