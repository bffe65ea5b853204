//! What was proven before is known again, and stops to count at once when it no longer holds.

use serde_json::json;

use super::*;

const OLD_ISSUER: &str = "https://old.example.com";
const JWK: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","use":"sig",
    "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

/// A credential that is in use: known to the process, and on a connection.
struct InUse<'a> {
    bench: &'a Fixture,
    credential: String,
    connection: ConnectionMemory,
}

impl Fixture {
    async fn verify_on(&self, credential: &str, connection: &mut ConnectionMemory) -> Verification {
        let client_ip = Some("192.0.2.1".parse().unwrap());
        self.verifier.verify_on(&Presented { client_ip, ..presented(credential) }, connection).await
    }

    /// Uses a credential until it is known in every way.
    async fn in_use(&self, credential: String) -> InUse<'_> {
        let mut connection = ConnectionMemory::default();
        for expected in [VerifiedBy::Full, VerifiedBy::Connection, VerifiedBy::Connection] {
            let verification = self.verify_on(&credential, &mut connection).await;
            assert_eq!((verification.outcome.err(), verification.check), (None, expected));
        }
        let elsewhere = self.verify_on(&credential, &mut ConnectionMemory::default()).await;
        assert_eq!((elsewhere.outcome.err(), elsewhere.check), (None, VerifiedBy::ProofCache));
        InUse { bench: self, credential, connection }
    }

    async fn key_in_use(&self, change: impl FnOnce(&mut ApiKey)) -> InUse<'_> {
        self.in_use(self.key("ak", CURRENT, at(0), change).await).await
    }

    /// Changes the one key that there is, as the use cases do: the store, then the cache.
    async fn change(&self, id: KeyId, change: impl FnOnce(&mut ApiKey)) {
        let before = self.store.find(TenantId::NIL, id).await.unwrap().unwrap();
        let mut key = before.clone();
        key.version += 1;
        change(&mut key);
        assert!(self.store.replace(&system(), &key, before.version).await.unwrap());
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
        self.bench.verifier.identify(TenantId::NIL, &self.credential).unwrap()
    }

    /// What becomes of the next request, on the connection and on another.
    async fn next(&mut self) -> Result<Verdict, Denial> {
        let here = self.bench.verify_on(&self.credential, &mut self.connection).await.outcome;
        let elsewhere = self.bench.verify_on(&self.credential, &mut ConnectionMemory::default()).await.outcome;
        assert_eq!(here.as_ref().err(), elsewhere.as_ref().err());
        here
    }

    async fn is_refused(&mut self) -> Denial {
        let denial = self.next().await.unwrap_err();
        assert_eq!(self.next().await.unwrap_err(), denial, "and stays so");
        denial
    }
}

const CHECKSUM: Denial = Denial::Unknown(UnknownReason::Checksum);

#[tokio::test]
async fn a_credential_of_each_kind_is_known_again() {
    let bench = bench(&[]);
    bench.store.insert(&system(), &record(imported_key_id(TenantId::NIL, "sk_live_1")), None).await.unwrap();
    bench.key_in_use(|_| {}).await;
    bench.in_use("sk_live_1".into()).await;
    bench.in_use(bench.jwt(ISSUER)).await;
    bench.in_use(macaroon(1, &CidrSet::default(), &[])).await;
}

#[tokio::test]
async fn what_was_refused_is_not_remembered() {
    let bench = bench(&[]);
    let expired = bench.key("ak", CURRENT, at(0), |key| key.expire_time = Some(at(-1))).await;
    let mut connection = ConnectionMemory::default();
    for credential in [&expired, "nobody's"] {
        for _ in 0..2 {
            let verification = bench.verify_on(credential, &mut connection).await;
            assert!(verification.outcome.is_err() && verification.check == VerifiedBy::Full, "{credential}");
        }
    }
}

#[tokio::test]
async fn revoked() {
    let bench = bench(&[]);
    let mut used = bench.key_in_use(|_| {}).await;
    let revocation = Revocation { reason: crate::key::RevocationReason::Unspecified, description: None };
    bench.change(used.id(), |key| key.status = Status::Revoked(revocation)).await;
    assert_eq!(used.is_refused().await, Denial::Revoked);
}

#[tokio::test]
async fn deleted() {
    let bench = bench(&[]);
    let mut used = bench.key_in_use(|_| {}).await;
    let last = bench.store.delete(&system(), used.id(), at(0)).await.unwrap().unwrap();
    bench.cache.invalidate_deleted((TenantId::NIL, used.id()), last);
    assert_eq!(used.is_refused().await, Denial::Unknown(UnknownReason::Absent));
}

#[tokio::test]
async fn expired() {
    let bench = bench(&[]);
    let mut used = bench.key_in_use(|_| {}).await;
    bench.clock.set(at(100));
    assert!(used.next().await.is_ok(), "its last moment");
    bench.clock.set(at(101));
    assert_eq!(used.is_refused().await, Denial::Expired);
}

#[tokio::test]
async fn too_old_by_the_time_inside_it() {
    let bench = bench(&[]);
    let mut used = bench.key_in_use(|key| key.expire_time = None).await;
    bench.clock.set(at(1000));
    assert!(used.next().await.is_ok(), "its last moment");
    bench.clock.set(at(1001));
    assert_eq!(used.is_refused().await, Denial::Unknown(UnknownReason::Timestamp));
}

#[tokio::test]
async fn its_secret_retired() {
    let bench = bench(&[Retired { value: RETIRED.to_owned().into(), expires_at: Some(at(50)) }]);
    let mut used = bench.in_use(bench.key("ak", RETIRED, at(0), |_| {}).await).await;
    bench.clock.set(at(50));
    assert_eq!(used.is_refused().await, CHECKSUM);
}

#[tokio::test]
async fn the_secret_of_a_macaroon_retired() {
    let bench = bench(&[Retired { value: RETIRED.to_owned().into(), expires_at: Some(at(50)) }]);
    let keyring = Keyring::new(&RETIRED.to_owned().into(), &[]);
    let token = new_token(1, &CidrSet::default(), &[], |token| token.to_macaroon(ISSUER, "mc", &keyring));
    let mut used = bench.in_use(token).await;
    bench.clock.set(at(50));
    assert_eq!(used.is_refused().await, Denial::SignatureInvalid);
}

#[tokio::test]
async fn its_issuer_retired() {
    let mut settings = settings(&[]);
    settings.tokens.issuers_retired = vec![Retired { value: OLD_ISSUER.to_owned(), expires_at: Some(at(50)) }];
    let bench = bench_of(settings);
    let mut used = bench.in_use(bench.jwt(OLD_ISSUER)).await;
    bench.clock.set(at(50));
    assert_eq!(used.is_refused().await, Denial::SignatureInvalid);
}

#[tokio::test]
async fn its_signing_key_taken_away() {
    let bench = bench(&[]);
    let mut used = bench.in_use(bench.jwt(ISSUER)).await;
    bench.signing_keys.store(Arc::default());
    assert_eq!(used.is_refused().await, Denial::SignatureInvalid);
}

#[tokio::test]
async fn a_token_at_its_end() {
    let bench = bench(&[]);
    for token in [bench.jwt(ISSUER), macaroon(1, &CidrSet::default(), &[])] {
        bench.clock.set(at(0));
        let mut used = bench.in_use(token).await;
        bench.clock.set(at(60));
        assert!(used.next().await.is_ok(), "its last moment");
        bench.clock.set(at(60) + TimeDelta::nanoseconds(1));
        assert_eq!(used.is_refused().await, Denial::SignatureInvalid);
    }
}

#[tokio::test]
async fn a_token_whose_parent_was_revoked() {
    let bench = bench(&[]);
    let mut used = bench.in_use(bench.jwt(ISSUER)).await;
    bench.revoked_parents.add((TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(1))), at(0), at(0));
    assert_eq!(used.is_refused().await, Denial::Revoked);
}

#[tokio::test]
async fn its_address_rule_changed() {
    let bench = bench(&[]);
    let mut used = bench.key_in_use(|key| key.networks = CidrSet::parse(&["192.0.2.0/24"]).unwrap()).await;
    bench.change(used.id(), |key| key.networks = CidrSet::parse(&["198.51.100.0/24"]).unwrap()).await;
    assert_eq!(used.is_refused().await, Denial::AddressNotAllowed { known: true });
}

#[tokio::test]
async fn from_another_address() {
    let bench = bench(&[]);
    let ranges = CidrSet::parse(&["192.0.2.0/24"]).unwrap();
    let token = macaroon(1, &ranges, &[]);
    for mut used in [bench.key_in_use(|key| key.networks = ranges.clone()).await, bench.in_use(token).await] {
        let elsewhere = Presented { client_ip: Some("192.0.3.1".parse().unwrap()), ..presented(&used.credential) };
        let refused = bench.verifier.verify_on(&elsewhere, &mut used.connection).await.outcome.err();
        assert_eq!(refused, Some(Denial::AddressNotAllowed { known: true }));
        assert!(used.next().await.is_ok());
    }
}

#[tokio::test]
async fn a_scope_removed() {
    let bench = bench(&[]);
    let mut used = bench.key_in_use(|key| key.scopes = ["read", "write"].into_iter().collect()).await;
    assert!(used.next().await.unwrap().scopes().contains_all(&["write".into()]));
    bench.change(used.id(), |key| key.scopes = ["read"].into_iter().collect()).await;
    assert!(!used.next().await.unwrap().scopes().contains_all(&["write".into()]));
}

#[tokio::test]
async fn its_record_evicted() {
    let bench = bench(&[]);
    let mut used = bench.key_in_use(|_| {}).await;
    // Behind the cache's back, so that nothing but the missing record tells.
    bench.store.delete(&system(), used.id(), at(0)).await.unwrap();
    assert!(used.next().await.is_ok(), "the cache has not heard of it");
    bench.cache.clear();
    assert_eq!(used.is_refused().await, Denial::Unknown(UnknownReason::Absent));
}

/// A process with another configuration has another key for its digests, and another table.
#[tokio::test]
async fn after_another_configuration_nothing_is_remembered() {
    let (before, after) = (bench(&[]), {
        let mut settings = settings(&[]);
        settings.prefixes = vec!["new".into()];
        settings.proof_cache.key = [8; 16];
        bench_of(settings)
    });
    let mut used = before.key_in_use(|_| {}).await;
    let key = before.store.find(TenantId::NIL, used.id()).await.unwrap().unwrap();
    after.store.insert(&system(), &key, None).await.unwrap();
    let refused = after.verify_on(&used.credential, &mut used.connection).await;
    assert_eq!(refused.outcome.err(), Some(Denial::Unknown(UnknownReason::Prefix)));
}

#[tokio::test]
async fn a_clock_that_goes_back_proves_nothing() {
    let bench = bench(&[]);
    bench.clock.set(at(30));
    let mut used = bench.key_in_use(|_| {}).await;
    bench.clock.set(at(-300));
    assert!(used.next().await.is_ok(), "within the skew");
    bench.clock.set(at(-301));
    assert_eq!(used.is_refused().await, Denial::Unknown(UnknownReason::Timestamp));
}

#[tokio::test]
async fn for_another_tenant() {
    let bench = bench(&[]);
    for credential in [bench.jwt(ISSUER), bench.key("ak", CURRENT, at(0), |_| {}).await] {
        let mut used = bench.in_use(credential).await;
        let tenant = TenantId(uuid::Uuid::from_u128(9));
        let foreign = Presented { tenant, ..presented(&used.credential) };
        for connection in [&mut used.connection, &mut ConnectionMemory::default()] {
            let verification = bench.verifier.verify_on(&foreign, connection).await;
            assert!(verification.outcome.is_err() && verification.check == VerifiedBy::Full);
        }
    }
}

#[tokio::test]
async fn a_lookup_that_may_leave_nothing_behind_leaves_nothing() {
    let bench = bench(&[]);
    let key = bench.key("ak", CURRENT, at(0), |_| {}).await;
    let cache = CachePolicy { write: false, ..CachePolicy::default() };
    for _ in 0..2 {
        let mut connection = ConnectionMemory::default();
        let verification = bench.verifier.verify_on(&Presented { cache, ..presented(&key) }, &mut connection).await;
        assert_eq!((verification.outcome.err(), verification.check), (None, VerifiedBy::Full));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_checked_again() {
    let mut settings = settings(&[]);
    settings.proof_cache.max_bytes = 0;
    let bench = bench_of(settings);
    let key = bench.key("ak", CURRENT, at(0), |_| {}).await;
    for _ in 0..2 {
        let verification = bench.verify_on(&key, &mut ConnectionMemory::default()).await;
        assert_eq!((verification.outcome.err(), verification.check), (None, VerifiedBy::Full));
    }
}

#[tokio::test]
async fn the_table_keeps_to_its_size() {
    let mut settings = settings(&[]);
    settings.proof_cache.max_bytes = 1 << 20;
    let bench = bench_of(settings);
    let long = "x".repeat(500);
    let custom = json!({ "text": long });
    for jti in 0..2_000 {
        let token = new_token(1, &CidrSet::default(), &[], |mut token| {
            token.jti = format!("{jti}");
            let metadata = custom.as_object().unwrap();
            NewToken { metadata, ..token }.to_macaroon(ISSUER, "mc", &Keyring::new(&CURRENT.to_owned().into(), &[]))
        });
        assert!(bench.verify(&token).await.is_ok());
    }
    let weight = bench.verifier.proof_cache.weight();
    assert!((1 << 19..=1 << 20).contains(&weight), "{weight} bytes");
}
