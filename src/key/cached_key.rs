//! The cached form of a key: the fields that verification needs, in a compact layout. A node holds about a million of them.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::api_key::{ApiKey, Metadata};
use super::header_value::{encode_text, encode_words};
use super::interner::{Interner, users};
use super::status::{EffectiveStatus, Status};
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// Bytes of the two reference counts of an [`Arc`].
const ARC_COUNTERS: usize = 16;
/// Bytes that the allocator adds to each allocation, approximately.
const ALLOCATION: usize = 8;
/// Bytes of the shared state that [`Bytes`] allocates when it is cloned for the first time.
const BYTES_SHARED: usize = 32;
/// Bytes of an entry in the interner's hash set.
const INTERNER_ENTRY: usize = 16;
const SECONDS_PER_DAY: i64 = 86_400;

/// The actor of a key: tenant, actor id, and the id as a header value. Interned: all keys of an actor share one object.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    tenant: TenantId,
    id: Box<str>,
    header_value: Bytes,
}

/// The scopes of a key, and their header value. Interned: all keys with the same scopes share one object.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    scopes: Scopes,
    header_value: Bytes,
}

/// The fields of an [`ApiKey`] that verification needs. Leaves out the name, the revocation details and the update time.
#[derive(Debug)]
pub struct CachedKey {
    id: KeyId,
    actor: Arc<Actor>,
    grant: Arc<Grant>,
    rate_limit: Option<Arc<RateLimitPolicy>>,
    networks: Option<Box<CidrSet>>,
    /// Serialized as JSON.
    metadata: Option<Box<str>>,
    /// Microseconds since 1970; `i64::MAX` for a key without an end.
    end_micros: i64,
    version: u64,
    ending: Ending,
    visibility: Visibility,
    /// Days since 1970; zero for a key that was never used.
    last_used_day: u32,
    /// The low 32 bits of the creation time in microseconds: distinguishes a key from an earlier key with the same id.
    creation: u32,
    /// Memory use in bytes.
    size: u32,
}

/// How a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is revoked.
    Revoked,
    /// It counts as revoked after its end, because a rotation replaced it.
    RevokedAtEnd,
    /// It expires.
    ExpiresAtEnd,
}

impl Actor {
    /// Returns the shared object for an actor of a tenant.
    pub fn shared(tenant: TenantId, id: &str) -> Arc<Self> {
        static ACTORS: LazyLock<Interner<Actor>> = LazyLock::new(Interner::default);
        let header_value = Bytes::from(encode_text(id).into_owned());
        ACTORS.share(Self { tenant, id: id.into(), header_value })
    }

    /// The tenant of the actor.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The actor id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The actor id as a header value, see [`encode_text`].
    pub fn field(&self) -> &Bytes {
        &self.header_value
    }

    fn size(&self) -> usize {
        let texts = self.id.len() + self.header_value.len() + 2 * ALLOCATION + BYTES_SHARED;
        ARC_COUNTERS + size_of::<Self>() + INTERNER_ENTRY + texts
    }
}

impl Grant {
    /// Returns the shared object for a list of scopes.
    pub fn shared(scopes: &Scopes) -> Arc<Self> {
        static GRANTS: LazyLock<Interner<Grant>> = LazyLock::new(Interner::default);
        GRANTS.share(Self { scopes: scopes.clone(), header_value: encode_words(scopes.iter()).into() })
    }

    /// The scopes in the order in which they were granted.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The scopes as a header value, see [`encode_words`].
    pub fn field(&self) -> &Bytes {
        &self.header_value
    }

    fn size(&self) -> usize {
        let scopes = self.scopes.iter().map(|scope| size_of::<Box<str>>() + ALLOCATION + scope.len()).sum::<usize>();
        let header_value = self.header_value.len() + BYTES_SHARED;
        ARC_COUNTERS + size_of::<Self>() + INTERNER_ENTRY + scopes + header_value + 2 * ALLOCATION
    }
}

impl From<&ApiKey> for CachedKey {
    fn from(key: &ApiKey) -> Self {
        static POLICIES: LazyLock<Interner<RateLimitPolicy>> = LazyLock::new(Interner::default);
        let mut cached = Self {
            id: key.id,
            actor: Actor::shared(key.tenant, &key.actor_id),
            grant: Grant::shared(&key.scopes),
            rate_limit: key.rate_limit.map(|policy| POLICIES.share(policy)),
            networks: (!key.networks.is_empty()).then(|| Box::new(key.networks.clone())),
            metadata: serialize(&key.metadata),
            end_micros: key.revoke_time.or(key.expire_time).map_or(i64::MAX, |time| time.timestamp_micros()),
            version: key.version,
            ending: match (&key.status, key.revoke_time) {
                (Status::Revoked(_), _) => Ending::Revoked,
                (Status::Active, Some(_)) => Ending::RevokedAtEnd,
                (Status::Active, None) => Ending::ExpiresAtEnd,
            },
            visibility: key.visibility,
            last_used_day: key.last_used_time.map_or(0, day),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only the low bits are kept")]
            creation: key.create_time.timestamp_micros() as u32,
            size: 0,
        };
        cached.size = u32::try_from(cached.measure()).unwrap_or(u32::MAX);
        cached
    }
}

impl CachedKey {
    /// The tenant of the key.
    pub fn tenant(&self) -> TenantId {
        self.actor.tenant
    }

    /// The id under which the key is stored.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The actor that the key identifies.
    pub fn actor(&self) -> &Arc<Actor> {
        &self.actor
    }

    /// The granted scopes.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// Free-form data. Parses the JSON on every call.
    pub fn metadata(&self) -> Metadata {
        let text = self.metadata.as_deref().unwrap_or("{}");
        // This process serialized the text, so parsing does not fail.
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The status at `now`; equal to [`ApiKey::effective_status`].
    pub fn effective_status(&self, now: Timestamp) -> EffectiveStatus {
        let is_past = now.timestamp_micros() > self.end_micros;
        match self.ending {
            Ending::Revoked => EffectiveStatus::Revoked,
            Ending::RevokedAtEnd if is_past => EffectiveStatus::Revoked,
            Ending::ExpiresAtEnd if is_past => EffectiveStatus::Expired,
            Ending::RevokedAtEnd | Ending::ExpiresAtEnd => EffectiveStatus::Active,
        }
    }

    /// The key is rejected after this time, by expiry or because a rotation replaced it; `None` means that it has no end.
    pub fn expire_time(&self) -> Option<Timestamp> {
        // `i64::MAX` is outside the range of a timestamp and becomes `None`.
        Timestamp::from_timestamp_micros(self.end_micros)
    }

    /// Whether the key is secret or public.
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// The rate limit of the key.
    pub fn rate_limit(&self) -> Option<RateLimitPolicy> {
        self.rate_limit.as_deref().copied()
    }

    /// Client addresses that may use the key; `None` allows all.
    pub fn networks(&self) -> Option<&CidrSet> {
        self.networks.as_deref()
    }

    /// Whether a client address may use the key; `None` stands for an unknown address.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        self.networks().is_none_or(|networks| address.is_some_and(|address| networks.contains(address)))
    }

    /// Whether the last recorded use is on the UTC day of `now` or later.
    pub fn is_used_on(&self, now: Timestamp) -> bool {
        self.last_used_day > 0 && self.last_used_day >= day(now)
    }

    /// Distinguishes the key from an earlier key with the same id: an imported key can be deleted and imported again.
    pub fn creation(&self) -> u32 {
        self.creation
    }

    /// See [`ApiKey::version`].
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Approximate memory use in bytes. An interned part counts as its size divided by its number of users at construction.
    pub fn size(&self) -> u32 {
        self.size
    }

    fn measure(&self) -> usize {
        let metadata = self.metadata.as_ref().map_or(0, |text| ALLOCATION + text.len());
        let networks = self.networks.as_ref().map_or(0, |networks| {
            let ranges = networks.texts().iter().map(|range| 3 * ALLOCATION + 2 * size_of::<Box<str>>() + range.len());
            size_of::<CidrSet>() + 3 * ALLOCATION + ranges.sum::<usize>()
        });
        let policy = self
            .rate_limit
            .as_ref()
            .map_or(0, |policy| (ARC_COUNTERS + size_of::<RateLimitPolicy>() + INTERNER_ENTRY) / users(policy));
        let interned = self.actor.size() / users(&self.actor) + self.grant.size() / users(&self.grant) + policy;
        ARC_COUNTERS + size_of::<Self>() + metadata + networks + interned
    }
}

/// Metadata as JSON; `None` when it is empty.
fn serialize(metadata: &Metadata) -> Option<Box<str>> {
    let text = if metadata.is_empty() { None } else { serde_json::to_string(metadata).ok() };
    text.map(String::into_boxed_str)
}

/// Days since 1970.
fn day(time: Timestamp) -> u32 {
    u32::try_from(time.timestamp().div_euclid(SECONDS_PER_DAY)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::key::{Revocation, RevocationReason};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
    }

    fn key() -> ApiKey {
        ApiKey {
            tenant: TenantId::NIL,
            id: KeyId::Imported([7; 32]),
            name: "Orders".into(),
            actor_id: "Ana Lima".into(),
            scopes: ["read", "read", "a b"].into_iter().collect(),
            metadata: json!({"z": 9_007_199_254_740_993_u64, "a": [{"x": 0.1}]}).as_object().unwrap().clone(),
            status: Status::Active,
            visibility: Visibility::Public,
            create_time: at(0),
            update_time: at(0),
            expire_time: Some(at(100)),
            revoke_time: None,
            replaced_by: None,
            last_used_time: None,
            rate_limit: Some(RateLimitPolicy { quota: NonZeroU64::MAX, window: Duration::from_secs(60) }),
            networks: CidrSet::parse(&["10.0.0.0/8"]).unwrap(),
            version: u64::MAX,
        }
    }

    fn unrestricted() -> ApiKey {
        let (metadata, networks) = (Metadata::new(), CidrSet::default());
        ApiKey { metadata, networks, rate_limit: None, expire_time: None, ..key() }
    }

    #[test]
    fn cached_key_fits_in_two_cpu_cache_lines() {
        assert!(ARC_COUNTERS + size_of::<CachedKey>() <= 128);
    }

    #[test]
    fn cached_key_has_the_fields_of_the_key() {
        for key in [key(), unrestricted()] {
            let cached = CachedKey::from(&key);
            assert_eq!((cached.tenant(), cached.id(), cached.version()), (key.tenant, key.id, key.version));
            assert_eq!((cached.actor().id(), cached.grant().scopes()), (&*key.actor_id, &key.scopes));
            assert_eq!(cached.metadata(), key.metadata);
            assert_eq!((cached.expire_time(), cached.rate_limit()), (key.expire_time, key.rate_limit));
            assert_eq!(cached.visibility(), key.visibility);
            assert_eq!(cached.networks().cloned().unwrap_or_default(), key.networks);
        }
    }

    #[test]
    fn effective_status_equals_that_of_the_key() {
        let revocation = Revocation { reason: RevocationReason::Unspecified, description: None };
        for status in [Status::Active, Status::Revoked(revocation)] {
            for expire_time in [None, Some(at(100)), Some(Timestamp::MAX_UTC), Some(Timestamp::UNIX_EPOCH)] {
                // A key that a rotation replaced is revoked before it expires, at the latest when it does.
                let earlier = [None, Some(at(50)), Some(at(100))].into_iter();
                for revoke_time in
                    earlier.filter(|end| end.is_none() || expire_time.is_none_or(|expiry| *end <= Some(expiry)))
                {
                    let key = ApiKey { status: status.clone(), expire_time, revoke_time, ..key() };
                    for (second, micros) in [(50, -1), (50, 0), (50, 1), (100, -1), (100, 0), (100, 1)] {
                        let now = at(second) + chrono::TimeDelta::microseconds(micros);
                        assert_eq!(CachedKey::from(&key).effective_status(now), key.effective_status(now), "{key:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn replaced_key_is_active_up_to_its_time_and_then_revoked() {
        let key = ApiKey { revoke_time: Some(at(50)), expire_time: Some(at(100)), ..key() };
        let cached = CachedKey::from(&key);
        assert_eq!(cached.expire_time(), Some(at(50)));
        for (seconds, status) in
            [(50, EffectiveStatus::Active), (51, EffectiveStatus::Revoked), (101, EffectiveStatus::Revoked)]
        {
            assert_eq!((cached.effective_status(at(seconds)), key.effective_status(at(seconds))), (status, status));
            let revocation = key.revocation(at(seconds)).map(|revocation| revocation.reason);
            assert_eq!(revocation, (status == EffectiveStatus::Revoked).then_some(RevocationReason::Superseded));
        }
    }

    #[test]
    fn only_addresses_in_the_networks_are_allowed() {
        let (restricted, open) = (CachedKey::from(&key()), CachedKey::from(&unrestricted()));
        let [inside, outside] = ["10.1.1.1", "11.1.1.1"].map(|address| address.parse().ok());
        assert_eq!([inside, outside, None].map(|address| restricted.allows(address)), [true, false, false]);
        assert_eq!([inside, outside, None].map(|address| open.allows(address)), [true; 3]);
    }

    #[test]
    fn last_use_has_day_precision() {
        let used = |time| CachedKey::from(&ApiKey { last_used_time: time, ..key() });
        let (night, morning) = ("2026-06-01T23:59:59Z".parse().unwrap(), "2026-06-02T00:00:00Z".parse().unwrap());
        assert!(!used(None).is_used_on(night));
        assert!(used(Some(night)).is_used_on(night) && !used(Some(night)).is_used_on(morning));
        assert!(used(Some(morning)).is_used_on(night));
    }

    #[test]
    fn equal_actors_and_grants_are_shared() {
        let tenant = TenantId(uuid::Uuid::from_u128(1));
        let other = CachedKey::from(&ApiKey { tenant, ..key() });
        let (first, second) = (CachedKey::from(&key()), CachedKey::from(&key()));
        assert!(Arc::ptr_eq(first.actor(), second.actor()) && Arc::ptr_eq(first.grant(), second.grant()));
        assert!(!Arc::ptr_eq(first.actor(), other.actor()), "actors of two tenants are distinct");
        assert_eq!(
            (&first.actor().field()[..], &first.grant().field()[..]),
            (&b"Ana Lima"[..], &b"read read a%20b"[..])
        );
        // The first key with an actor counts the whole object; the next one counts half of it.
        let first = CachedKey::from(&ApiKey { actor_id: "x".repeat(1000), ..key() });
        let second = CachedKey::from(&ApiKey { actor_id: "x".repeat(1000), ..key() });
        assert!(first.size() > 2000 && first.size() > second.size() && second.size() > 1000);
    }

    #[test]
    fn size_includes_metadata_and_networks() {
        let base = CachedKey::from(&unrestricted()).size();
        let metadata = Metadata::from_iter([("text".to_owned(), "x".repeat(10_000).into())]);
        assert!(CachedKey::from(&ApiKey { metadata, ..unrestricted() }).size() > base + 10_000);
        let ranges: Vec<_> = (0..50).map(|number| format!("10.{number}.0.0/16")).collect();
        let networks = CidrSet::parse(&ranges).unwrap();
        assert!(CachedKey::from(&ApiKey { networks, ..unrestricted() }).size() > base + 50 * 50);
    }
}
