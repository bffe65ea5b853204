//! What judging needs of a key, in as few bytes as can be: a node holds a million of them.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::field::{encode_text, encode_words};
use super::interner::{Interner, users};
use super::{ApiKey, EffectiveStatus, Metadata, Status};
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// Of an allocation: the two counters of an [`Arc`].
const COUNTERS: usize = 16;
/// Of a text or a list: what the allocator adds, about.
const ALLOCATION: usize = 8;
/// Of a field value: what counts those that have it, once a request had.
const FIELD: usize = 32;
/// Of a shared object: its place in the table of all.
const PLACE: usize = 16;
const SECONDS_PER_DAY: i64 = 86_400;

/// Whose key it is. One object for all keys of an owner.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    tenant: TenantId,
    id: Box<str>,
    field: Bytes,
}

/// What a key may do. One object for all keys that may do the same.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    scopes: Scopes,
    field: Bytes,
}

/// What judging needs of a key. Names, reasons and times that only people read are not in it.
#[derive(Debug)]
pub struct CachedKey {
    id: KeyId,
    owner: Arc<Actor>,
    grant: Arc<Grant>,
    rate_limit: Option<Arc<RateLimitPolicy>>,
    networks: Option<Box<CidrSet>>,
    /// As JSON.
    metadata: Option<Box<str>>,
    /// Microseconds since 1970; `i64::MAX` for never.
    expires: i64,
    version: u64,
    revoked: bool,
    visibility: Visibility,
    /// Days since 1970; zero for never.
    last_used: u32,
    /// The lowest bits of the time of creation: a key that was imported again is another one.
    creation: u32,
    /// What it takes of memory, in bytes.
    size: u32,
}

impl Actor {
    /// The owner of that name in a tenant.
    pub fn shared(tenant: TenantId, id: &str) -> Arc<Self> {
        static OWNERS: LazyLock<Interner<Actor>> = LazyLock::new(Interner::default);
        let field = Bytes::from(encode_text(id).into_owned());
        OWNERS.share(Self { tenant, id: id.into(), field })
    }

    /// Whom the owner belongs to.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The owner's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name as the value of a header field: visible ASCII and inner spaces, percent-encoded where it must be.
    pub fn field(&self) -> &Bytes {
        &self.field
    }

    fn size(&self) -> usize {
        COUNTERS + size_of::<Self>() + PLACE + self.id.len() + self.field.len() + 2 * ALLOCATION + FIELD
    }
}

impl Grant {
    /// The grant of these scopes.
    pub fn shared(scopes: &Scopes) -> Arc<Self> {
        static GRANTS: LazyLock<Interner<Grant>> = LazyLock::new(Interner::default);
        GRANTS.share(Self { scopes: scopes.clone(), field: encode_words(scopes.iter()).into() })
    }

    /// The scopes in the order they were granted.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The scopes as the value of a header field: separated by spaces, percent-encoded where they must be.
    pub fn field(&self) -> &Bytes {
        &self.field
    }

    fn size(&self) -> usize {
        let scopes = self.scopes.iter().map(|scope| size_of::<Box<str>>() + ALLOCATION + scope.len()).sum::<usize>();
        COUNTERS + size_of::<Self>() + PLACE + scopes + self.field.len() + 2 * ALLOCATION + FIELD
    }
}

impl From<&ApiKey> for CachedKey {
    fn from(key: &ApiKey) -> Self {
        static POLICIES: LazyLock<Interner<RateLimitPolicy>> = LazyLock::new(Interner::default);
        let mut record = Self {
            id: key.id,
            owner: Actor::shared(key.tenant, &key.actor_id),
            grant: Grant::shared(&key.scopes),
            rate_limit: key.rate_limit.map(|policy| POLICIES.share(policy)),
            networks: (!key.networks.is_empty()).then(|| Box::new(key.networks.clone())),
            metadata: metadata_text(&key.metadata),
            expires: key.expire_time.map_or(i64::MAX, |time| time.timestamp_micros()),
            version: key.version,
            revoked: matches!(key.status, Status::Revoked(_)),
            visibility: key.visibility,
            last_used: key.last_used_time.map_or(0, day),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the lowest bits are wanted")]
            creation: key.create_time.timestamp_micros() as u32,
            size: 0,
        };
        record.size = u32::try_from(record.measure()).unwrap_or(u32::MAX);
        record
    }
}

impl CachedKey {
    /// Whom the key belongs to.
    pub fn tenant(&self) -> TenantId {
        self.owner.tenant
    }

    /// The id under which it is found.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The owner.
    pub fn actor(&self) -> &Arc<Actor> {
        &self.owner
    }

    /// What it may do.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// The owner's own data. Read from its text each time.
    pub fn metadata(&self) -> Metadata {
        let text = self.metadata.as_deref().unwrap_or("{}");
        // It was written by this process.
        serde_json::from_str(text).unwrap_or_default()
    }

    /// What holds at `now`, as [`ApiKey::effective_status`] says it.
    pub fn effective_status(&self, now: Timestamp) -> EffectiveStatus {
        EffectiveStatus::of(self.revoked, now.timestamp_micros() > self.expires)
    }

    /// From when on it is refused; never when absent.
    pub fn expire_time(&self) -> Option<Timestamp> {
        // Never is beyond what a time can be.
        Timestamp::from_timestamp_micros(self.expires)
    }

    /// Whether the key may be shown.
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// How often it may be used.
    pub fn rate_limit(&self) -> Option<RateLimitPolicy> {
        self.rate_limit.as_deref().copied()
    }

    /// From where it may be used; from everywhere when absent.
    pub fn networks(&self) -> Option<&CidrSet> {
        self.networks.as_deref()
    }

    /// Whether it may be used from an address; `None` for one that is not known.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        self.networks().is_none_or(|networks| address.is_some_and(|address| networks.contains(address)))
    }

    /// Whether it is known to have been used on the day of `now` (UTC), or later.
    pub fn is_used_on(&self, now: Timestamp) -> bool {
        self.last_used > 0 && self.last_used >= day(now)
    }

    /// What tells two keys apart that had one id after the other.
    pub fn creation(&self) -> u32 {
        self.creation
    }

    /// Raised by every change, see [`ApiKey::version`].
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What it takes of memory in bytes, about, with its share in what it had in common with others when it was made.
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
            .map_or(0, |policy| (COUNTERS + size_of::<RateLimitPolicy>() + PLACE) / users(policy));
        let common = self.owner.size() / users(&self.owner) + self.grant.size() / users(&self.grant) + policy;
        COUNTERS + size_of::<Self>() + metadata + networks + common
    }
}

/// The text of metadata, without room for more.
fn metadata_text(metadata: &Metadata) -> Option<Box<str>> {
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
            last_used_time: None,
            rate_limit: Some(RateLimitPolicy { quota: NonZeroU64::MAX, window: Duration::from_secs(60) }),
            networks: CidrSet::parse(&["10.0.0.0/8"]).unwrap(),
            version: u64::MAX,
        }
    }

    fn plain() -> ApiKey {
        let (metadata, networks) = (Metadata::new(), CidrSet::default());
        ApiKey { metadata, networks, rate_limit: None, expire_time: None, ..key() }
    }

    #[test]
    fn it_takes_no_more_than_two_lines_of_a_processors_cache() {
        assert!(COUNTERS + size_of::<CachedKey>() <= 128);
    }

    #[test]
    fn it_says_what_the_key_says() {
        for key in [key(), plain()] {
            let record = CachedKey::from(&key);
            assert_eq!((record.tenant(), record.id(), record.version()), (key.tenant, key.id, key.version));
            assert_eq!((record.actor().id(), record.grant().scopes()), (&*key.actor_id, &key.scopes));
            assert_eq!(record.metadata(), key.metadata);
            assert_eq!((record.expire_time(), record.rate_limit()), (key.expire_time, key.rate_limit));
            assert_eq!(record.visibility(), key.visibility);
            assert_eq!(record.networks().cloned().unwrap_or_default(), key.networks);
        }
    }

    #[test]
    fn the_state_is_the_keys() {
        let revocation = Revocation { reason: RevocationReason::Unspecified, description: None };
        for status in [Status::Active, Status::Revoked(revocation)] {
            for expire_time in [None, Some(at(100)), Some(Timestamp::MAX_UTC), Some(Timestamp::UNIX_EPOCH)] {
                let key = ApiKey { status: status.clone(), expire_time, ..key() };
                for micros in [-1, 0, 1] {
                    let now = at(100) + chrono::TimeDelta::microseconds(micros);
                    assert_eq!(CachedKey::from(&key).effective_status(now), key.effective_status(now), "{key:?}");
                }
            }
        }
    }

    #[test]
    fn an_address_must_be_in_the_ranges_that_there_are() {
        let (bound, free) = (CachedKey::from(&key()), CachedKey::from(&plain()));
        let [inside, outside] = ["10.1.1.1", "11.1.1.1"].map(|address| address.parse().ok());
        assert_eq!([inside, outside, None].map(|address| bound.allows(address)), [true, false, false]);
        assert_eq!([inside, outside, None].map(|address| free.allows(address)), [true; 3]);
    }

    #[test]
    fn use_is_known_to_the_day() {
        let used = |time| CachedKey::from(&ApiKey { last_used_time: time, ..key() });
        let (night, morning) = ("2026-06-01T23:59:59Z".parse().unwrap(), "2026-06-02T00:00:00Z".parse().unwrap());
        assert!(!used(None).is_used_on(night));
        assert!(used(Some(night)).is_used_on(night) && !used(Some(night)).is_used_on(morning));
        assert!(used(Some(morning)).is_used_on(night));
    }

    #[test]
    fn keys_have_in_common_what_is_the_same() {
        let tenant = TenantId(uuid::Uuid::from_u128(1));
        let other = CachedKey::from(&ApiKey { tenant, ..key() });
        let (first, second) = (CachedKey::from(&key()), CachedKey::from(&key()));
        assert!(Arc::ptr_eq(first.actor(), second.actor()) && Arc::ptr_eq(first.grant(), second.grant()));
        assert!(!Arc::ptr_eq(first.actor(), other.actor()), "an owner belongs to a tenant");
        assert_eq!(
            (&first.actor().field()[..], &first.grant().field()[..]),
            (&b"Ana Lima"[..], &b"read read a%20b"[..])
        );
        // An owner of its own, which nobody shared before.
        let alone = CachedKey::from(&ApiKey { actor_id: "x".repeat(1000), ..key() });
        let sharing = CachedKey::from(&ApiKey { actor_id: "x".repeat(1000), ..key() });
        assert!(alone.size() > 2000 && alone.size() > sharing.size() && sharing.size() > 1000);
    }

    #[test]
    fn what_a_key_brings_is_weighed() {
        let light = CachedKey::from(&plain()).size();
        let metadata = Metadata::from_iter([("text".to_owned(), "x".repeat(10_000).into())]);
        assert!(CachedKey::from(&ApiKey { metadata, ..plain() }).size() > light + 10_000);
        let ranges: Vec<_> = (0..50).map(|number| format!("10.{number}.0.0/16")).collect();
        let networks = CidrSet::parse(&ranges).unwrap();
        assert!(CachedKey::from(&ApiKey { networks, ..plain() }).size() > light + 50 * 50);
    }
}
