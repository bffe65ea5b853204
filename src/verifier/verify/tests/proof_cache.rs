//! A cached proof is used while it is valid, and never afterwards: one test for each way in which it becomes invalid.

use serde_json::json;

use super::*;
use crate::verifier::CachePolicy;

const OLD_ISSUER: &str = "https://old.example.com";
const JWK: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","use":"sig",
    "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

/// A credential whose proof is in the proof cache and at a connection.
struct InUse<'a> {
    fixture: &'a Fixture,
    credential: String,
    connection: ConnectionMemory,
}

impl Fixture {
    async fn verify_on(&self, credential: &str, connection: &mut ConnectionMemory) -> Verification {
        let client_ip = Some("192.0.2.1".parse().unwrap());
        self.verifier.verify_on(&Presented { client_ip, ..presented(credential) }, connection).await
    }

    /// Presents a credential until its proof is cached everywhere.
    async fn in_use(&self, credential: String) -> InUse<'_> {
        let mut connection = ConnectionMemory::default();
        for expected in [VerifiedBy::Full, VerifiedBy::Connection, VerifiedBy::Connection] {
            let verification = self.verify_on(&credential, &mut connection).await;
            assert_eq!((verification.outcome.err(), verification.check), (None, expected));
        }
        let elsewhere = self.verify_on(&credential, &mut ConnectionMemory::default()).await;
        assert_eq!((elsewhere.outcome.err(), elsewhere.check), (None, VerifiedBy::ProofCache));
        InUse { fixture: self, credential, connection }
    }

    async fn key_in_use(&self, change: impl FnOnce(&mut ApiKey)) -> InUse<'_> {
        self.in_use(self.key("ak", CURRENT, at(0), change).await).await
    }

    /// Changes the key as the lifecycle does: the store, then the cache.
    async fn change(&self, id: KeyId, change: impl FnOnce(&mut ApiKey)) {
        let before = self.store.find(TenantId::NIL, id).await.unwrap().unwrap();
        let mut key = before.clone();
        key.version += 1;
        change(&mut key);
        assert!(self.store.replace(&system(), &key, &before).await.unwrap());
        self.cache.invalidate((TenantId::NIL, id), key.version);
    }

    fn jwt(&self, issuer: &str) -> String {
        let keys = Arc::new(SigningKeys::parse(JWK).unwrap());
        self.signing_keys.store(Arc::clone(&keys));
        new_token(1, &CidrSet::default(), &[], |token| token.to_jwt(issuer, keys.signer("").unwrap()).unwrap())
    }
}

impl InUse<'_> {
    fn id(&self) -> KeyId {
        self.fixture.verifier.identify(TenantId::NIL, &self.credential).unwrap()
    }

    /// The outcome of the next request, on the same connection and on another one.
    async fn next(&mut self) -> Result<Verdict, Denial> {
        let here = self.fixture.verify_on(&self.credential, &mut self.connection).await.outcome;
        let elsewhere = self.fixture.verify_on(&self.credential, &mut ConnectionMemory::default()).await.outcome;
        assert_eq!(here.as_ref().err(), elsewhere.as_ref().err());
        here
    }

    async fn is_denied(&mut self) -> Denial {
        let denial = self.next().await.unwrap_err();
        assert_eq!(self.next().await.unwrap_err(), denial, "and stays so");
        denial
    }
}

const CHECKSUM: Denial = Denial::Unknown(UnknownReason::Checksum);

#[tokio::test]
async fn proof_of_each_credential_kind_is_cached() {
    let fixture = fixture(&[]);
    fixture.store.insert(&system(), &record(imported_key_id(TenantId::NIL, "sk_live_1")), None).await.unwrap();
    fixture.key_in_use(|_| {}).await;
    fixture.in_use("sk_live_1".into()).await;
    fixture.in_use(fixture.jwt(ISSUER)).await;
    fixture.in_use(macaroon(1, &CidrSet::default(), &[])).await;
}

#[tokio::test]
async fn denied_credential_leaves_no_proof() {
    let fixture = fixture(&[]);
    let expired = fixture.key("ak", CURRENT, at(0), |key| key.expire_time = Some(at(-1))).await;
    let mut connection = ConnectionMemory::default();
    for credential in [&expired, "unknown-key"] {
        for _ in 0..2 {
            let verification = fixture.verify_on(credential, &mut connection).await;
            assert!(verification.outcome.is_err() && verification.check == VerifiedBy::Full, "{credential}");
        }
    }
}

#[tokio::test]
async fn revoked_key_is_denied() {
    let fixture = fixture(&[]);
    let mut used = fixture.key_in_use(|_| {}).await;
    let revocation = Revocation { reason: crate::key::RevocationReason::Unspecified, description: None };
    fixture.change(used.id(), |key| key.status = Status::Revoked(revocation)).await;
    assert_eq!(used.is_denied().await, Denial::Revoked);
}

#[tokio::test]
async fn deleted_key_is_denied() {
    let fixture = fixture(&[]);
    let mut used = fixture.key_in_use(|_| {}).await;
    let last = fixture.store.delete(&system(), used.id(), at(0)).await.unwrap().unwrap();
    fixture.cache.invalidate_deleted((TenantId::NIL, used.id()), last);
    assert_eq!(used.is_denied().await, Denial::Unknown(UnknownReason::Absent));
}

#[tokio::test]
async fn expired_key_is_denied() {
    let fixture = fixture(&[]);
    let mut used = fixture.key_in_use(|_| {}).await;
    fixture.clock.set(at(100));
    assert!(used.next().await.is_ok(), "its last moment");
    fixture.clock.set(at(101));
    assert_eq!(used.is_denied().await, Denial::Expired);
}

#[tokio::test]
async fn key_beyond_the_maximum_age_is_denied() {
    let fixture = fixture(&[]);
    let mut used = fixture.key_in_use(|key| key.expire_time = None).await;
    fixture.clock.set(at(1000));
    assert!(used.next().await.is_ok(), "its last moment");
    fixture.clock.set(at(1001));
    assert_eq!(used.is_denied().await, Denial::Unknown(UnknownReason::Timestamp));
}

#[tokio::test]
async fn key_of_a_retired_secret_is_denied() {
    let fixture = fixture(&[Retired { value: RETIRED.to_owned().into(), expires_at: Some(at(50)) }]);
    let mut used = fixture.in_use(fixture.key("ak", RETIRED, at(0), |_| {}).await).await;
    fixture.clock.set(at(50));
    assert_eq!(used.is_denied().await, CHECKSUM);
}

#[tokio::test]
async fn macaroon_of_a_retired_secret_is_denied() {
    let fixture = fixture(&[Retired { value: RETIRED.to_owned().into(), expires_at: Some(at(50)) }]);
    let keyring = Keyring::new(&RETIRED.to_owned().into(), &[]);
    let token = new_token(1, &CidrSet::default(), &[], |token| token.to_macaroon(ISSUER, "mc", &keyring));
    let mut used = fixture.in_use(token).await;
    fixture.clock.set(at(50));
    assert_eq!(used.is_denied().await, Denial::SignatureInvalid);
}

#[tokio::test]
async fn token_of_a_retired_issuer_is_denied() {
    let mut settings = settings(&[]);
    settings.tokens.issuers_retired = vec![Retired { value: OLD_ISSUER.to_owned(), expires_at: Some(at(50)) }];
    let fixture = fixture_of(settings);
    let mut used = fixture.in_use(fixture.jwt(OLD_ISSUER)).await;
    fixture.clock.set(at(50));
    assert_eq!(used.is_denied().await, Denial::SignatureInvalid);
}

#[tokio::test]
async fn token_of_a_removed_signing_key_is_denied() {
    let fixture = fixture(&[]);
    let mut used = fixture.in_use(fixture.jwt(ISSUER)).await;
    fixture.signing_keys.store(Arc::default());
    assert_eq!(used.is_denied().await, Denial::SignatureInvalid);
}

#[tokio::test]
async fn token_is_valid_up_to_its_expiry() {
    let fixture = fixture(&[]);
    for token in [fixture.jwt(ISSUER), macaroon(1, &CidrSet::default(), &[])] {
        fixture.clock.set(at(0));
        let mut used = fixture.in_use(token).await;
        fixture.clock.set(at(60));
        assert!(used.next().await.is_ok(), "its last moment");
        fixture.clock.set(at(60) + TimeDelta::nanoseconds(1));
        assert_eq!(used.is_denied().await, Denial::SignatureInvalid);
    }
}

#[tokio::test]
async fn token_of_a_revoked_parent_is_denied() {
    let fixture = fixture(&[]);
    let mut used = fixture.in_use(fixture.jwt(ISSUER)).await;
    fixture.revoked_parents.add((TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(1))), at(0), at(0));
    assert_eq!(used.is_denied().await, Denial::Revoked);
}

#[tokio::test]
async fn changed_address_rule_applies_at_once() {
    let fixture = fixture(&[]);
    let mut used = fixture.key_in_use(|key| key.networks = CidrSet::parse(&["192.0.2.0/24"]).unwrap()).await;
    fixture.change(used.id(), |key| key.networks = CidrSet::parse(&["198.51.100.0/24"]).unwrap()).await;
    assert_eq!(used.is_denied().await, Denial::AddressNotAllowed { known: true });
}

#[tokio::test]
async fn address_rule_applies_to_every_request() {
    let fixture = fixture(&[]);
    let ranges = CidrSet::parse(&["192.0.2.0/24"]).unwrap();
    let token = macaroon(1, &ranges, &[]);
    for mut used in [fixture.key_in_use(|key| key.networks = ranges.clone()).await, fixture.in_use(token).await] {
        let elsewhere = Presented { client_ip: Some("192.0.3.1".parse().unwrap()), ..presented(&used.credential) };
        let refused = fixture.verifier.verify_on(&elsewhere, &mut used.connection).await.outcome.err();
        assert_eq!(refused, Some(Denial::AddressNotAllowed { known: true }));
        assert!(used.next().await.is_ok());
    }
}

#[tokio::test]
async fn removed_scope_is_not_granted() {
    let fixture = fixture(&[]);
    let mut used = fixture.key_in_use(|key| key.scopes = ["read", "write"].into_iter().collect()).await;
    assert!(used.next().await.unwrap().scopes().contains_all(&["write".into()]));
    fixture.change(used.id(), |key| key.scopes = ["read"].into_iter().collect()).await;
    assert!(!used.next().await.unwrap().scopes().contains_all(&["write".into()]));
}

#[tokio::test]
async fn evicted_record_is_read_again() {
    let fixture = fixture(&[]);
    let mut used = fixture.key_in_use(|_| {}).await;
    // In the store only, so that only the eviction makes the change visible.
    fixture.store.delete(&system(), used.id(), at(0)).await.unwrap();
    assert!(used.next().await.is_ok(), "the cache has not heard of it");
    fixture.cache.clear();
    assert_eq!(used.is_denied().await, Denial::Unknown(UnknownReason::Absent));
}

/// Another process has another hash key and another table.
#[tokio::test]
async fn proofs_of_another_process_are_not_used() {
    let (before, after) = (fixture(&[]), {
        let mut settings = settings(&[]);
        settings.prefixes = vec!["new".into()];
        settings.proof_cache.key = [8; 16];
        fixture_of(settings)
    });
    let mut used = before.key_in_use(|_| {}).await;
    let key = before.store.find(TenantId::NIL, used.id()).await.unwrap().unwrap();
    after.store.insert(&system(), &key, None).await.unwrap();
    let refused = after.verify_on(&used.credential, &mut used.connection).await;
    assert_eq!(refused.outcome.err(), Some(Denial::Unknown(UnknownReason::Prefix)));
}

#[tokio::test]
async fn proof_is_invalid_if_the_clock_steps_back() {
    let fixture = fixture(&[]);
    fixture.clock.set(at(30));
    let mut used = fixture.key_in_use(|_| {}).await;
    fixture.clock.set(at(-300));
    assert!(used.next().await.is_ok(), "within the skew");
    fixture.clock.set(at(-301));
    assert_eq!(used.is_denied().await, Denial::Unknown(UnknownReason::Timestamp));
}

#[tokio::test]
async fn proof_is_not_used_for_another_tenant() {
    let fixture = fixture(&[]);
    for credential in [fixture.jwt(ISSUER), fixture.key("ak", CURRENT, at(0), |_| {}).await] {
        let mut used = fixture.in_use(credential).await;
        let tenant = TenantId(uuid::Uuid::from_u128(9));
        let foreign = Presented { tenant, ..presented(&used.credential) };
        for connection in [&mut used.connection, &mut ConnectionMemory::default()] {
            let verification = fixture.verifier.verify_on(&foreign, connection).await;
            assert!(verification.outcome.is_err() && verification.check == VerifiedBy::Full);
        }
    }
}

#[tokio::test]
async fn no_store_verification_caches_no_proof() {
    let fixture = fixture(&[]);
    let key = fixture.key("ak", CURRENT, at(0), |_| {}).await;
    let cache = CachePolicy { write: false, ..CachePolicy::default() };
    for _ in 0..2 {
        let mut connection = ConnectionMemory::default();
        let verification = fixture.verifier.verify_on(&Presented { cache, ..presented(&key) }, &mut connection).await;
        assert_eq!((verification.outcome.err(), verification.check), (None, VerifiedBy::Full));
    }
}

#[tokio::test]
async fn token_beyond_the_size_limit_is_verified_again() {
    let mut settings = settings(&[]);
    settings.proof_cache.max_bytes = 0;
    let fixture = fixture_of(settings);
    let token = new_token(1, &CidrSet::default(), &[], |token| {
        token.to_macaroon(ISSUER, "mc", &Keyring::new(&CURRENT.to_owned().into(), &[]))
    });
    for _ in 0..2 {
        let verification = fixture.verify_on(&token, &mut ConnectionMemory::default()).await;
        assert_eq!((verification.outcome.err(), verification.check), (None, VerifiedBy::Full));
    }
}

/// The thread that verified a key for one connection needs no proof cache for the next one.
#[tokio::test]
async fn key_is_known_to_the_thread_after_its_connection_has_ended() {
    let mut settings = settings(&[]);
    settings.proof_cache.max_bytes = 0;
    let fixture = fixture_of(settings);
    let key = fixture.key("ak", CURRENT, at(0), |_| {}).await;
    for check in [VerifiedBy::Full, VerifiedBy::ProofCache] {
        let verification = fixture.verify_on(&key, &mut ConnectionMemory::default()).await;
        assert_eq!((verification.outcome.err(), verification.check), (None, check));
    }
}

#[tokio::test]
async fn proof_cache_stays_within_its_size_limit() {
    let mut settings = settings(&[]);
    settings.proof_cache.max_bytes = 1 << 20;
    let fixture = fixture_of(settings);
    let long = "x".repeat(500);
    let custom = json!({ "text": long });
    for jti in 0..2_000 {
        let token = new_token(1, &CidrSet::default(), &[], |mut token| {
            token.jti = format!("{jti}");
            let metadata = custom.as_object().unwrap();
            NewToken { metadata, ..token }.to_macaroon(ISSUER, "mc", &Keyring::new(&CURRENT.to_owned().into(), &[]))
        });
        assert!(fixture.verify(&token).await.is_ok());
    }
    let weight = fixture.verifier.proof_cache.weight();
    assert!((1 << 19..=1 << 20).contains(&weight), "{weight} bytes");
}

/// The settings of a reloaded configuration that still accept the key: only the generation differs.
#[tokio::test]
async fn proof_of_another_settings_generation_is_not_used() {
    let fixture = fixture(&[]);
    let key = fixture.key("ak", CURRENT, at(0), |_| {}).await;
    let mut connection = ConnectionMemory::default();
    let reloaded = fixture.verifier.with_settings(settings(&[]));
    for (verifier, checks) in [
        (&fixture.verifier, [VerifiedBy::Full, VerifiedBy::Connection]),
        (&reloaded, [VerifiedBy::Full, VerifiedBy::Connection]),
        (&fixture.verifier, [VerifiedBy::ProofCache, VerifiedBy::Connection]),
    ] {
        for check in checks {
            let verification = verifier.verify_on(&presented(&key), &mut connection).await;
            assert!(verification.outcome.is_ok() && verification.check == check, "{verification:?}");
        }
    }
}
