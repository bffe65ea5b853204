//! The encoding of records in the shared cache, which another version of Keygate may have written.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::CacheKey;
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::key::{ApiKey, Metadata, Revocation, RevocationReason, Status};
use crate::policy::{RateLimitPolicy, Visibility};

/// The version of the encoding; raised when other versions would decode it wrongly.
pub(super) const FORMAT: &str = "3";

/// A record without its key. Times are microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    name: String,
    actor_id: String,
    scopes: Vec<String>,
    metadata: Metadata,
    /// The reason and its description, of a revoked key.
    revoked: Option<(String, Option<String>)>,
    public: bool,
    created: i64,
    updated: i64,
    expires: Option<i64>,
    /// When a replaced key counts as revoked.
    revokes: Option<i64>,
    replaced_by: Option<String>,
    used: Option<i64>,
    /// The quota, and the window in seconds.
    limit: Option<(NonZeroU64, u64)>,
    networks: Vec<String>,
}

/// Encodes a record.
pub(super) fn encode(key: &ApiKey) -> Option<Vec<u8>> {
    let revoked = match &key.status {
        Status::Active => None,
        Status::Revoked(revocation) => Some((revocation.reason.name().to_owned(), revocation.description.clone())),
    };
    let stored = Stored {
        version: key.version,
        name: key.name.clone(),
        actor_id: key.actor_id.clone(),
        scopes: key.scopes.iter().map(str::to_owned).collect(),
        metadata: key.metadata.clone(),
        revoked,
        public: key.visibility == Visibility::Public,
        created: key.create_time.timestamp_micros(),
        updated: key.update_time.timestamp_micros(),
        expires: key.expire_time.map(|time| time.timestamp_micros()),
        revokes: key.revoke_time.map(|time| time.timestamp_micros()),
        replaced_by: key.replaced_by.map(|id| id.to_string()),
        used: key.last_used_time.map(|time| time.timestamp_micros()),
        limit: key.rate_limit.map(|limit| (limit.quota, limit.window.as_secs())),
        networks: key.networks.texts().iter().map(ToString::to_string).collect(),
    };
    serde_json::to_vec(&stored).ok()
}

/// Decodes the record of a key; `None` if the bytes are invalid.
pub(super) fn decode((tenant, id): CacheKey, bytes: &[u8]) -> Option<ApiKey> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let status = match stored.revoked {
        None => Status::Active,
        Some((reason, description)) => {
            Status::Revoked(Revocation { reason: RevocationReason::from_name(&reason)?, description })
        }
    };
    Some(ApiKey {
        tenant,
        id,
        name: stored.name,
        actor_id: stored.actor_id,
        scopes: stored.scopes.into_iter().collect(),
        metadata: stored.metadata,
        status,
        visibility: if stored.public { Visibility::Public } else { Visibility::Secret },
        create_time: Timestamp::from_timestamp_micros(stored.created)?,
        update_time: Timestamp::from_timestamp_micros(stored.updated)?,
        expire_time: time(stored.expires)?,
        revoke_time: time(stored.revokes)?,
        replaced_by: match stored.replaced_by {
            Some(id) => Some(KeyId::parse_issued(&id)?),
            None => None,
        },
        last_used_time: time(stored.used)?,
        rate_limit: stored.limit.map(|(quota, window)| RateLimitPolicy { quota, window: Duration::from_secs(window) }),
        networks: CidrSet::parse(&stored.networks).ok()?,
        version: stored.version,
    })
}

/// The outer `None` is an invalid time, the inner one no time.
#[expect(clippy::option_option, reason = "invalid and absent are different results")]
fn time(micros: Option<i64>) -> Option<Option<Timestamp>> {
    match micros {
        Some(micros) => Timestamp::from_timestamp_micros(micros).map(Some),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::TenantId;

    #[test]
    fn record_is_decoded_as_it_was_encoded() {
        let key = ApiKey {
            tenant: TenantId::NIL,
            id: KeyId::Imported([7; 32]),
            name: "Orders".into(),
            actor_id: "user_1".into(),
            scopes: ["read", "read", "write"].into_iter().collect(),
            metadata: json!({"n": 9_007_199_254_740_993_u64, "deep": [{}]}).as_object().unwrap().clone(),
            status: Status::Revoked(Revocation {
                reason: RevocationReason::PrivilegeWithdrawn,
                description: Some("left".into()),
            }),
            visibility: Visibility::Public,
            create_time: Timestamp::from_timestamp_micros(1_780_000_000_123_456).unwrap(),
            update_time: Timestamp::from_timestamp_micros(1_780_000_000_123_457).unwrap(),
            expire_time: Some(Timestamp::UNIX_EPOCH),
            revoke_time: None,
            replaced_by: None,
            last_used_time: None,
            rate_limit: Some(RateLimitPolicy { quota: NonZeroU64::MAX, window: Duration::from_secs(60) }),
            networks: CidrSet::parse(&["10.0.0.0/8", "2001:db8::/32"]).unwrap(),
            version: u64::MAX,
        };
        let bytes = encode(&key).unwrap();
        assert_eq!(decode((key.tenant, key.id), &bytes), Some(key.clone()));
        let plain = ApiKey { status: Status::Active, rate_limit: None, expire_time: None, ..key };
        let replaced_by = Some(KeyId::Issued(uuid::Uuid::from_u128(7)));
        let replaced = ApiKey { revoke_time: Some(Timestamp::UNIX_EPOCH), replaced_by, ..plain.clone() };
        assert_eq!(decode((replaced.tenant, replaced.id), &encode(&replaced).unwrap()), Some(replaced));
        assert_eq!(decode((plain.tenant, plain.id), &encode(&plain).unwrap()), Some(plain));
        assert_eq!(decode((TenantId::NIL, KeyId::Imported([7; 32])), &bytes[1..]), None);
    }
}
