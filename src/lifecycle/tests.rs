use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;

use super::settings::TTL_MAX;
use super::*;
use crate::cache::{Caches, KeyCache, Loaded, ParentStatus, RevokedParents, Source};
use crate::clock::{ManualClock, Timestamp};
use crate::credential::{IssuedKey, Keyring, Routing, SigningKeys};
use crate::id::{KeyId, RequestId, TenantId};
use crate::key::{ApiKey, CachedKey, EffectiveStatus, KeyChange, KeyDraft, RevocationReason, RevokeKey, RotateKey};
use crate::policy::{RateLimitPolicy, Visibility};
use crate::request_context::{ActorScope, Principal, RequestContext};
use crate::store::MemoryStore;

fn lifecycle(change: impl FnOnce(&mut Settings)) -> Lifecycle {
    let mut settings = Settings {
        keyring: Arc::new(Keyring::new(&"a secret of at least thirty-two characters".to_owned().into(), &[])),
        routing: Routing::new(&["mc"]),
        prefix: "ak".into(),
        public_prefix: None,
        default_ttl: Some(Duration::from_secs(3600)),
        max_ttl: Duration::from_secs(86_400),
        quota: None,
        derived: DerivedSettings {
            issuer: "https://keys.example.com".into(),
            default_ttl: Duration::from_secs(600),
            macaroon_prefix: "mc".into(),
            ..DerivedSettings::default()
        },
    };
    change(&mut settings);
    let cache = Some(Arc::new(KeyCache::new(1 << 20, Duration::from_secs(60))));
    let clock = Arc::new(ManualClock::new(Timestamp::from_timestamp(1_780_000_000, 123_456_789).unwrap()));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let revoked_parents = Arc::new(RevokedParents::new(Duration::from_secs(86_400), 100));
    let caches = Caches::alone(cache, revoked_parents);
    Lifecycle::new(settings, Arc::new(MemoryStore::default()), caches, clock, StdRng::seed_from_u64(1), metrics)
}

fn context() -> RequestContext {
    let request_id = RequestId::random();
    RequestContext {
        tenant: TenantId::NIL,
        principal: Principal::Anonymous,
        actors: ActorScope::All,
        client_ip: None,
        request_id,
    }
}

fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

fn draft() -> KeyDraft {
    KeyDraft { name: "n".into(), actor_id: "a".into(), ..KeyDraft::default() }
}

async fn message(lifecycle: &Lifecycle, draft: KeyDraft) -> String {
    lifecycle.issue(&context(), draft).await.unwrap_err().to_string()
}

#[tokio::test]
async fn issued_key_is_stored_as_returned() {
    let lifecycle = lifecycle(|_| {});
    let limit = RateLimitPolicy { quota: NonZeroU64::MIN, window: Duration::from_secs(1) };
    let issued = lifecycle.issue(&context(), KeyDraft { rate_limit: Some(limit), ..draft() }).await.unwrap();
    let secret = issued.secret.unwrap();
    let key = IssuedKey::parse(secret.expose_secret()).unwrap();
    assert_eq!((key.id(), key.prefix()), (issued.key.id, "ak"));
    assert_eq!(issued.key.expire_time, Some(issued.key.create_time + chrono::TimeDelta::hours(1)));
    assert_eq!(issued.key.create_time.timestamp_subsec_nanos(), 123_456_000, "stores keep microseconds");
    assert_eq!(lifecycle.get(&context(), issued.key.id).await.unwrap(), issued.key);
}

#[tokio::test]
async fn lifetime_outside_the_limits_is_rejected_not_clamped() {
    let strict = lifecycle(|_| {});
    let ttl = |seconds| KeyDraft { ttl: Some(Duration::from_secs(seconds)), ..draft() };
    assert_eq!(message(&strict, ttl(86_401)).await, "ttl 24h0m1s exceeds the project maximum of 24h0m0s");
    assert_eq!(message(&strict, ttl(0)).await, "ttl must be greater than 0; non-expiring API keys are not supported");
    let unbounded = lifecycle(|settings| settings.max_ttl = Duration::ZERO);
    assert!(unbounded.issue(&context(), ttl(315_360_000)).await.is_ok());
    assert!(unbounded.issue(&context(), ttl(315_360_001)).await.is_err());
    let no_default = lifecycle(|settings| settings.default_ttl = None);
    assert!(message(&no_default, draft()).await.starts_with("ttl must be greater than 0"));
}

#[tokio::test]
async fn public_key_requires_a_configured_prefix() {
    let public = || KeyDraft { visibility: Visibility::Public, ..draft() };
    let without = lifecycle(|_| {});
    assert!(message(&without, public()).await.starts_with("public key prefix not configured"));
    let with = lifecycle(|settings| settings.public_prefix = Some("pk".into()));
    let secret = with.issue(&context(), public()).await.unwrap().secret.unwrap();
    assert!(secret.expose_secret().starts_with("pk_v1_"));
}

#[tokio::test]
async fn quota_counts_active_keys_and_permits_replays() {
    let lifecycle = lifecycle(|settings| settings.quota = Some(1));
    let once = || KeyDraft { request_id: Some("r".into()), ..draft() };
    let first = lifecycle.issue(&context(), once()).await.unwrap();
    assert!(matches!(lifecycle.issue(&context(), draft()).await, Err(LifecycleError::QuotaExceeded)));
    let replay = lifecycle.issue(&context(), once()).await.unwrap();
    assert_eq!(replay.key, first.key);
    assert!(replay.secret.is_none());
    lifecycle.revoke(&context(), first.key.id, RevokeKey::default()).await.unwrap();
    assert!(lifecycle.issue(&context(), draft()).await.is_ok());
}

#[tokio::test]
async fn empty_request_id_counts_as_absent() {
    let lifecycle = lifecycle(|_| {});
    let empty = || KeyDraft { request_id: Some(String::new()), ..draft() };
    let first = lifecycle.issue(&context(), empty()).await.unwrap();
    let second = lifecycle.issue(&context(), empty()).await.unwrap();
    assert_ne!(first.key.id, second.key.id);
}

#[tokio::test]
async fn second_revocation_is_rejected() {
    let lifecycle = lifecycle(|_| {});
    let id = lifecycle.issue(&context(), draft()).await.unwrap().key.id;
    let command = || RevokeKey { reason: RevocationReason::KeyCompromise, description: None };
    lifecycle.revoke(&context(), id, command()).await.unwrap();
    let key = lifecycle.get(&context(), id).await.unwrap();
    assert_eq!(
        (key.effective_status(lifecycle.now()), key.version),
        (EffectiveStatus::Revoked, ApiKey::first_version(lifecycle.now()) + 1)
    );
    let again = lifecycle.revoke(&context(), id, command()).await;
    assert!(matches!(again, Err(LifecycleError::AlreadyRevoked)));
    let unknown = lifecycle.revoke(&context(), KeyId::Issued(uuid::Uuid::nil()), command()).await;
    assert!(matches!(unknown, Err(LifecycleError::NotFound(_))));
}

fn import(raw_key: &str) -> ImportKey {
    ImportKey { raw_key: raw_key.to_owned().into(), draft: draft() }
}

#[tokio::test]
async fn imported_key_is_unique_until_it_is_deleted() {
    let lifecycle = lifecycle(|_| {});
    let key = lifecycle.import(&context(), import("sk_1")).await.unwrap();
    let again = lifecycle.import(&context(), import("sk_1")).await;
    assert!(matches!(again, Err(LifecycleError::AlreadyImported)));
    lifecycle.delete(&context(), key.id).await.unwrap();
    assert!(matches!(lifecycle.delete(&context(), key.id).await, Err(LifecycleError::NotFound(_))));
    assert_eq!(lifecycle.import(&context(), import("sk_1")).await.unwrap().id, key.id);
}

#[tokio::test]
async fn import_rejects_texts_that_look_like_other_credentials() {
    let lifecycle = lifecycle(|_| {});
    let issued = lifecycle.issue(&context(), draft()).await.unwrap().secret.unwrap();
    let result = lifecycle.import(&context(), import(issued.expose_secret())).await;
    assert!(matches!(result, Err(LifecycleError::IssuedShape)));
    for raw_key in ["eyJh.eyJh.c2ln", "mc_v1_x"] {
        let result = lifecycle.import(&context(), import(raw_key)).await;
        assert!(matches!(result, Err(LifecycleError::DerivedShape)));
    }
    for raw_key in [String::new(), "x".repeat(8193)] {
        assert!(matches!(lifecycle.import(&context(), import(&raw_key)).await, Err(LifecycleError::Invalid(_))));
    }
}

#[tokio::test]
async fn batch_validates_each_item_and_rejects_the_last_beyond_the_quota() {
    let lifecycle = lifecycle(|settings| settings.quota = Some(3));
    lifecycle.import(&context(), import("stored")).await.unwrap();
    let nameless = ImportKey { draft: KeyDraft { actor_id: "a".into(), ..KeyDraft::default() }, ..import("c") };
    let items = vec![
        Ok(import("a")),
        Ok(import("a")),
        Err("bad ttl".into()),
        Ok(nameless),
        Ok(import("mc_v1_x")),
        Ok(import("b")),
        Ok(import("c")),
    ];
    let results = lifecycle.import_batch(&context(), items).await.unwrap();
    let codes: Vec<_> = results.iter().map(|item| item.as_ref().err().map(|error| error.code)).collect();
    let expected = [
        None,
        Some(BatchCode::AlreadyExists),
        Some(BatchCode::InvalidArgument),
        Some(BatchCode::InvalidArgument),
        Some(BatchCode::FailedPrecondition),
        None,
        Some(BatchCode::ResourceExhausted),
    ];
    assert_eq!(codes, expected);
    let again = lifecycle.import_batch(&context(), vec![Ok(import("stored"))]).await.unwrap();
    assert_eq!(again[0].as_ref().unwrap_err().code, BatchCode::ResourceExhausted);
    assert!(lifecycle.import_batch(&context(), Vec::new()).await.is_err());
    let many = (0..1001).map(|number| Ok(import(&number.to_string()))).collect();
    assert!(lifecycle.import_batch(&context(), many).await.is_err());
}

#[tokio::test]
async fn update_changes_only_the_given_fields() {
    let lifecycle = lifecycle(|_| {});
    let before = lifecycle.issue(&context(), KeyDraft { scopes: vec!["s".into()], ..draft() }).await.unwrap().key;
    let change = KeyChange { name: Some(String::new()), ..KeyChange::default() };
    let after = lifecycle.update(&context(), before.id, change).await.unwrap();
    assert_eq!(after, ApiKey { name: String::new(), version: before.version + 1, ..before.clone() });
    lifecycle.revoke(&context(), before.id, RevokeKey::default()).await.unwrap();
    let change = KeyChange { scopes: Some(Vec::new()), ..KeyChange::default() };
    let after = lifecycle.update(&context(), before.id, change).await.unwrap();
    assert_eq!((after.scopes.as_slice().len(), after.effective_status(lifecycle.now())), (0, EffectiveStatus::Revoked));
}

#[tokio::test]
async fn rotated_key_inherits_fields_and_the_old_key_is_revoked() {
    let lifecycle = lifecycle(|_| {});
    let old = lifecycle.issue(&context(), KeyDraft { scopes: vec!["s".into()], ..draft() }).await.unwrap().key;
    let change = KeyChange { name: Some("new".into()), ..KeyChange::default() };
    let command = RotateKey { change, ..RotateKey::default() };
    let rotated = lifecycle.rotate(&context(), old.id, command).await.unwrap();
    assert_eq!(IssuedKey::parse(rotated.secret.expose_secret()).unwrap().id(), rotated.key.id);
    let expected = ApiKey { id: rotated.key.id, name: "new".into(), ..old.clone() };
    assert_eq!(rotated.key, expected);
    assert_eq!((rotated.old.id, rotated.old.effective_status(lifecycle.now())), (old.id, EffectiveStatus::Revoked));
    assert_eq!(
        lifecycle.caches.revoked_parents.status(&(TenantId::NIL, old.id), lifecycle.now()),
        ParentStatus::Revoked
    );
    let again = lifecycle.rotate(&context(), old.id, RotateKey::default()).await;
    assert!(matches!(again, Err(LifecycleError::NotActive)));
}

#[tokio::test]
async fn old_key_stays_active_for_the_requested_time_but_not_beyond_its_expiry() {
    let lifecycle = lifecycle(|_| {});
    for (after, end) in [(60, 60), (3600, 3600), (7200, 3600), (0, 0)] {
        let old = lifecycle.issue(&context(), draft()).await.unwrap().key;
        let revoke_old_after = Some(Duration::from_secs(after));
        let command = RotateKey { revoke_old_after, ..RotateKey::default() };
        let rotated = lifecycle.rotate(&context(), old.id, command.clone()).await.unwrap();
        let now = lifecycle.now();
        assert_eq!((rotated.key.revoke_time, rotated.key.replaced_by), (None, None));
        assert_eq!(rotated.old.replaced_by, Some(rotated.key.id));
        let status = |time| lifecycle.caches.revoked_parents.status(&(TenantId::NIL, old.id), time);
        if end == 0 {
            assert_eq!(
                (rotated.old.effective_status(now), status(now)),
                (EffectiveStatus::Revoked, ParentStatus::Revoked)
            );
            continue;
        }
        let end = now + Duration::from_secs(end);
        assert_eq!((rotated.old.revoke_time, rotated.old.effective_status(end)), (Some(end), EffectiveStatus::Active));
        assert_eq!(rotated.old.effective_status(end + Duration::from_secs(1)), EffectiveStatus::Revoked);
        assert_eq!((status(now), status(end)), (ParentStatus::Active, ParentStatus::Revoked));
        let again = lifecycle.rotate(&context(), old.id, command).await;
        assert!(matches!(again, Err(LifecycleError::Replaced(new)) if new == rotated.key.id));
    }
    let command = RotateKey { revoke_old_after: Some(TTL_MAX + Duration::from_secs(1)), ..RotateKey::default() };
    let old = lifecycle.issue(&context(), draft()).await.unwrap().key;
    assert!(matches!(lifecycle.rotate(&context(), old.id, command).await, Err(LifecycleError::Invalid(_))));
}

#[tokio::test]
async fn holder_can_revoke_a_secret_key_but_not_a_public_one() {
    let lifecycle = lifecycle(|settings| settings.public_prefix = Some("pk".into()));
    let own = async |id, reason| lifecycle.revoke_own(&context(), id, reason).await;
    let id = lifecycle.issue(&context(), draft()).await.unwrap().key.id;
    let refused = own(id, RevocationReason::PrivilegeWithdrawn).await;
    assert!(matches!(refused, Err(LifecycleError::Invalid(_))));
    own(id, RevocationReason::Unspecified).await.unwrap();
    own(id, RevocationReason::KeyCompromise).await.unwrap();
    let public = KeyDraft { visibility: Visibility::Public, ..draft() };
    let public = lifecycle.issue(&context(), public).await.unwrap().key.id;
    assert!(matches!(own(public, RevocationReason::Unspecified).await, Err(LifecycleError::PublicKey)));
    let missing = KeyId::Issued(uuid::Uuid::nil());
    assert!(matches!(own(missing, RevocationReason::Unspecified).await, Err(LifecycleError::NotFound(_))));
}

#[tokio::test]
async fn pages_respect_their_size_and_the_last_has_no_token() {
    let lifecycle = lifecycle(|_| {});
    for number in 0..5 {
        lifecycle.import(&context(), import(&number.to_string())).await.unwrap();
    }
    let list = |page_size, page_token: String| {
        let request = ListKeys { page_size, page_token, filter: String::new() };
        let lifecycle = &lifecycle;
        async move { lifecycle.list(&context(), crate::id::KeyKind::Imported, &request).await }
    };
    let first = list(2, String::new()).await.unwrap();
    let second = list(3, first.next_page_token.clone()).await.unwrap();
    assert_eq!((first.keys.len(), second.keys.len(), second.next_page_token.as_str()), (2, 3, ""));
    assert!(list(1001, String::new()).await.is_err());
    assert!(list(2, "nonsense".into()).await.is_err());
}

fn with_signing_key() -> Lifecycle {
    let key = r#"{"kty":"OKP","crv":"Ed25519","kid":"k","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
        "d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;
    lifecycle(|settings| settings.derived.signing_keys.store(Arc::new(SigningKeys::parse(key).unwrap())))
}

async fn parent(lifecycle: &Lifecycle) -> ApiKey {
    let metadata = serde_json::json!({"team": "blue", "k": 1}).as_object().cloned().unwrap();
    let draft = KeyDraft { scopes: vec!["a".into(), "b".into()], metadata, ..draft() };
    lifecycle.issue(&context(), draft).await.unwrap().key
}

#[tokio::test]
async fn token_has_the_scopes_of_its_parent_or_fewer() {
    let lifecycle = with_signing_key();
    let parent = parent(&lifecycle).await;
    let derived = lifecycle.derive(&context(), &CachedKey::from(&parent), DeriveToken::default()).await.unwrap();
    assert!(derived.token.expose_secret().starts_with("eyJ"));
    assert_eq!((&derived.scopes, &derived.claims), (&parent.scopes, &parent.metadata));
    assert_eq!(
        derived.expire_time,
        chrono::SubsecRound::trunc_subsecs(parent.create_time, 0) + chrono::TimeDelta::minutes(10)
    );
    let command = DeriveToken {
        form: TokenForm::Macaroon,
        ttl: Some(Duration::ZERO),
        scopes: vec!["b".into()],
        custom_claims: serde_json::json!({"k": 2, "sub": "x", "act": "y"}).as_object().cloned().unwrap(),
        audiences: vec!["api".into()],
    };
    let derived = lifecycle.derive(&context(), &CachedKey::from(&parent), command).await.unwrap();
    assert!(derived.token.expose_secret().starts_with("mc_v1_"));
    assert!(derived.scopes.iter().eq(["b"]));
    assert_eq!(serde_json::Value::Object(derived.claims), serde_json::json!({"team": "blue", "k": 2}));
}

#[tokio::test]
async fn derive_reports_why_a_token_is_rejected() {
    let lifecycle = with_signing_key();
    let parent = parent(&lifecycle).await;
    let of_ttl = |seconds| DeriveToken { ttl: Some(Duration::from_secs(seconds)), ..DeriveToken::default() };
    let error = async |parent: &ApiKey, command| {
        lifecycle.derive(&context(), &CachedKey::from(parent), command).await.unwrap_err()
    };
    assert!(matches!(error(&parent, of_ttl(86_401)).await, LifecycleError::Invalid(_)));
    assert!(matches!(error(&parent, of_ttl(3601)).await, LifecycleError::Invalid(_)), "the parent expires in an hour");
    let scopes = DeriveToken { scopes: vec!["a".into(), "c".into()], ..DeriveToken::default() };
    assert_eq!(error(&parent, scopes).await.to_string(), "scope \"c\" is not granted to the key");
    let custom_claims = serde_json::json!({"x": "y".repeat(8192)}).as_object().cloned().unwrap();
    for form in [TokenForm::Jwt, TokenForm::Macaroon] {
        let command = DeriveToken { form, custom_claims: custom_claims.clone(), ..DeriveToken::default() };
        assert!(matches!(error(&parent, command).await, LifecycleError::Invalid(_)));
    }
    let expired = ApiKey { expire_time: Some(parent.create_time - chrono::TimeDelta::seconds(1)), ..parent.clone() };
    assert!(matches!(error(&expired, DeriveToken::default()).await, LifecycleError::ParentEnded));
    let without = super::tests::lifecycle(|_| {});
    let refused = without.derive(&context(), &CachedKey::from(&parent), DeriveToken::default()).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::NoSigningKey(_)));
}

#[tokio::test]
async fn purge_deletes_expired_keys_from_store_and_cache() {
    const HOUR: i64 = 3600;
    let lifecycle = lifecycle(|_| {});
    let template = lifecycle.issue(&context(), draft()).await.unwrap().key;
    let now = lifecycle.now();
    let expired = |number: u128, hours: i64| ApiKey {
        id: KeyId::Issued(uuid::Uuid::from_u128(number)),
        expire_time: Some(now - chrono::TimeDelta::seconds(hours * HOUR)),
        ..template.clone()
    };
    let keys: Vec<_> = (0..1201).map(|number| expired(number, 25)).chain([expired(5000, 23)]).collect();
    lifecycle.store.insert_many(&context(), &keys).await.unwrap();
    let cache = lifecycle.caches.local.clone().unwrap();
    for key in [&keys[0], &keys[1201]] {
        let loaded = Loaded { record: Some(Arc::new(CachedKey::from(key))), source: Source::Store };
        cache.fetch((key.tenant, key.id), async |_| Ok(loaded.clone())).await.unwrap();
    }
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(lifecycle.purge(&system(), day).await.unwrap(), 1201);
    assert_eq!(lifecycle.purge(&system(), day).await.unwrap(), 0);
    assert_eq!(lifecycle.store.count_active(TenantId::NIL, lifecycle.now()).await.unwrap(), 2);
    let cached = |key: &ApiKey| cache.get(&(key.tenant, key.id)).is_some();
    assert_eq!([&keys[0], &keys[1201]].map(cached), [false, true]);
    // Their tokens have expired with them, so they need no entry among the revoked parents.
    let status = lifecycle.caches.revoked_parents.status(&(TenantId::NIL, keys[0].id), now);
    assert_eq!(status, crate::cache::ParentStatus::Active);
    assert_eq!(lifecycle.purge(&system(), Duration::MAX).await.unwrap(), 0);
}

#[tokio::test]
async fn purge_keeps_deletions_for_the_longest_token_lifetime() {
    let lifecycle = lifecycle(|_| {});
    let (day, now) = (chrono::TimeDelta::days(1), lifecycle.now());
    for (number, time) in [(1, now - day - chrono::TimeDelta::seconds(1)), (2, now - day)] {
        let id = KeyId::Imported([number; 32]);
        let key = ApiKey { id, ..lifecycle.issue(&context(), draft()).await.unwrap().key };
        lifecycle.store.insert(&context(), &key, None).await.unwrap();
        lifecycle.store.delete(&context(), id, time).await.unwrap();
    }
    lifecycle.purge(&system(), Duration::from_secs(24 * 3600)).await.unwrap();
    let left = lifecycle.store.revoked_since(Timestamp::UNIX_EPOCH, 10).await.unwrap();
    assert_eq!(left.iter().map(|key| key.id).collect::<Vec<_>>(), [KeyId::Imported([2; 32])]);
}
