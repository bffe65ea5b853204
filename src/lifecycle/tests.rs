use std::num::NonZeroU64;

use rand::SeedableRng;
use secrecy::ExposeSecret;

use super::*;
use crate::clock::ManualClock;
use crate::credential::IssuedKey;
use crate::key::{KeyDraft, RevocationReason, RevokeKey, State};
use crate::policy::{RateLimitPolicy, Visibility};
use crate::store::MemoryStore;

fn lifecycle(change: impl FnOnce(&mut Settings)) -> Lifecycle {
    let mut settings = Settings {
        keyring: Arc::new(Keyring::new(&"a secret of at least thirty-two characters".to_owned().into(), &[])),
        prefix: "ak".into(),
        public_prefix: None,
        default_ttl: Some(Duration::from_secs(3600)),
        max_ttl: Duration::from_secs(86_400),
        quota: None,
    };
    change(&mut settings);
    let cache = Some(Arc::new(KeyCache::new(1 << 20, Duration::from_secs(60))));
    let clock = Arc::new(ManualClock::new(Timestamp::from_timestamp(1_780_000_000, 123_456_789).unwrap()));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    Lifecycle::new(settings, Arc::new(MemoryStore::default()), cache, clock, StdRng::seed_from_u64(1), metrics)
}

fn draft() -> KeyDraft {
    KeyDraft { name: "n".into(), actor_id: "a".into(), ..KeyDraft::default() }
}

async fn message(lifecycle: &Lifecycle, draft: KeyDraft) -> String {
    lifecycle.issue(TenantId::NIL, draft).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_issued_key_is_stored_as_it_is_shown() {
    let lifecycle = lifecycle(|_| {});
    let limit = RateLimitPolicy { quota: NonZeroU64::MIN, window: Duration::from_secs(1) };
    let issued = lifecycle.issue(TenantId::NIL, KeyDraft { rate_limit: Some(limit), ..draft() }).await.unwrap();
    let secret = issued.secret.unwrap();
    let key = IssuedKey::parse(secret.expose_secret()).unwrap();
    assert_eq!((key.id(), key.prefix()), (issued.key.id, "ak"));
    assert_eq!(issued.key.expire_time, Some(issued.key.create_time + chrono::TimeDelta::hours(1)));
    assert_eq!(issued.key.create_time.timestamp_subsec_nanos(), 123_456_000, "stores keep microseconds");
    assert_eq!(lifecycle.get(TenantId::NIL, issued.key.id).await.unwrap(), issued.key);
}

#[tokio::test]
async fn lives_are_refused_never_clamped() {
    let strict = lifecycle(|_| {});
    let ttl = |seconds| KeyDraft { ttl: Some(Duration::from_secs(seconds)), ..draft() };
    assert_eq!(message(&strict, ttl(86_401)).await, "ttl 24h0m1s exceeds the project maximum of 24h0m0s");
    assert_eq!(message(&strict, ttl(0)).await, "ttl must be greater than 0; non-expiring API keys are not supported");
    let unbounded = lifecycle(|settings| settings.max_ttl = Duration::ZERO);
    assert!(unbounded.issue(TenantId::NIL, ttl(315_360_000)).await.is_ok());
    assert!(unbounded.issue(TenantId::NIL, ttl(315_360_001)).await.is_err());
    let no_default = lifecycle(|settings| settings.default_ttl = None);
    assert!(message(&no_default, draft()).await.starts_with("ttl must be greater than 0"));
}

#[tokio::test]
async fn public_keys_need_their_prefix() {
    let public = || KeyDraft { visibility: Visibility::Public, ..draft() };
    let without = lifecycle(|_| {});
    assert!(message(&without, public()).await.starts_with("public key prefix not configured"));
    let with = lifecycle(|settings| settings.public_prefix = Some("pk".into()));
    let secret = with.issue(TenantId::NIL, public()).await.unwrap().secret.unwrap();
    assert!(secret.expose_secret().starts_with("pk_v1_"));
}

#[tokio::test]
async fn the_quota_counts_active_keys_and_lets_replays_pass() {
    let lifecycle = lifecycle(|settings| settings.quota = Some(1));
    let once = || KeyDraft { request_id: Some("r".into()), ..draft() };
    let first = lifecycle.issue(TenantId::NIL, once()).await.unwrap();
    assert!(matches!(lifecycle.issue(TenantId::NIL, draft()).await, Err(LifecycleError::QuotaExceeded)));
    let replay = lifecycle.issue(TenantId::NIL, once()).await.unwrap();
    assert_eq!(replay.key, first.key);
    assert!(replay.secret.is_none());
    lifecycle.revoke(TenantId::NIL, first.key.id, RevokeKey::default()).await.unwrap();
    assert!(lifecycle.issue(TenantId::NIL, draft()).await.is_ok());
}

#[tokio::test]
async fn an_empty_request_id_is_none() {
    let lifecycle = lifecycle(|_| {});
    let empty = || KeyDraft { request_id: Some(String::new()), ..draft() };
    let first = lifecycle.issue(TenantId::NIL, empty()).await.unwrap();
    let second = lifecycle.issue(TenantId::NIL, empty()).await.unwrap();
    assert_ne!(first.key.id, second.key.id);
}

#[tokio::test]
async fn a_revocation_is_for_good_and_once() {
    let lifecycle = lifecycle(|_| {});
    let id = lifecycle.issue(TenantId::NIL, draft()).await.unwrap().key.id;
    let command = || RevokeKey { reason: RevocationReason::KeyCompromise, description: None };
    lifecycle.revoke(TenantId::NIL, id, command()).await.unwrap();
    let key = lifecycle.get(TenantId::NIL, id).await.unwrap();
    assert_eq!((key.state(lifecycle.now()), key.version), (State::Revoked, 2));
    let again = lifecycle.revoke(TenantId::NIL, id, command()).await;
    assert!(matches!(again, Err(LifecycleError::AlreadyRevoked)));
    let unknown = lifecycle.revoke(TenantId::NIL, KeyId::Issued(uuid::Uuid::nil()), command()).await;
    assert!(matches!(unknown, Err(LifecycleError::NotFound(_))));
}
