use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::credential::Routing;

const SECRET: &str = "test-vector-hmac-secret-32-bytes-long!!";
const ISSUER: &str = "https://api.example.com";
const MACAROON: &str = "mc_v1_AgEXaHR0cHM6Ly9hcGkuZXhhbXBsZS5jb20CLnsianRpIjoiYWFhYWFhYWEtYmJiYi00Y2NjLThkZGQtZWVlZWVlZWVlZWVlIn0AAogCeyJhY3QiOiJ1c2VyXzEiLCJleHAiOjE3ODAwMDM2MDAsImlhdCI6MTc4MDAwMDAwMCwiaXNzIjoiaHR0cHM6Ly9hcGkuZXhhbXBsZS5jb20iLCJqdGkiOiJhYWFhYWFhYS1iYmJiLTRjY2MtOGRkZC1lZWVlZWVlZWVlZWUiLCJuYmYiOjE3ODAwMDAwMDAsIm5pZCI6IjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCIsInNjcCI6WyJyZWFkIl0sInN1YiI6IjExMTExMTExLTIyMjItNDMzMy04NDQ0LTU1NTU1NTU1NTU1NSIsInZpcyI6InNlY3JldCJ9AAAGIBTnKWGBJi6mcTH9j6UifFGfZg_ZhRsm70o0rzS9W_cY";
const JWT: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6InZlYy0xIiwidHlwIjoiSldUIn0.eyJhY3QiOiJ1c2VyXzEiLCJleHAiOjE3ODAwMDM2MDAsImlhdCI6MTc4MDAwMDAwMCwiaXNzIjoiaHR0cHM6Ly9hcGkuZXhhbXBsZS5jb20iLCJqdGkiOiJhYWFhYWFhYS1iYmJiLTRjY2MtOGRkZC1lZWVlZWVlZWVlZWUiLCJuYmYiOjE3ODAwMDAwMDAsIm5pZCI6IjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCIsInNjcCI6WyJyZWFkIl0sInN1YiI6IjExMTExMTExLTIyMjItNDMzMy04NDQ0LTU1NTU1NTU1NTU1NSIsInZpcyI6InNlY3JldCJ9.h9bdT_5ov2fn70cGxlExF_7j5dibYmkKMywK6CxkD5Fy2aHTjRzjCcJC_bI70DvhaIg_HX5D7WNT4LK-bjzfAA";
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"vec-1",
    "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn settings() -> TokenSettings {
    TokenSettings {
        issuer: ISSUER.into(),
        issuers_retired: vec![Retired { value: "https://old.example.com".into(), expires_at: Some(at(100)) }],
        clock_skew: TimeDelta::seconds(300),
        keyring: Arc::new(Keyring::new(&SECRET.to_owned().into(), &[])),
        ignore_unknown_caveats: false,
    }
}

fn keys() -> SigningKeys {
    SigningKeys::parse(KEYS).unwrap()
}

/// The token of the test vectors.
fn vector<'a>(scopes: &'a Scopes, empty: &'a Map<String, Value>, networks: &'a CidrSet) -> NewToken<'a> {
    NewToken {
        jti: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".into(),
        key_id: KeyId::parse_issued("11111111-2222-4333-8444-555555555555").unwrap(),
        tenant: TenantId::NIL,
        actor_id: "user_1",
        scopes,
        metadata: empty,
        networks,
        visibility: Visibility::Secret,
        now: at(0),
        expire_time: at(3600),
        audiences: &[],
        custom: empty,
    }
}

fn checked_at(text: &str, now: Timestamp) -> Result<DerivedToken, TokenError> {
    settings().check(&Routing::new(&["mc"]).classify(text), &keys(), TenantId::NIL, now)
}

fn checked(text: &str) -> Result<DerivedToken, TokenError> {
    checked_at(text, at(1))
}

/// The macaroon of the test vector with additional caveats.
fn attenuated(caveats: &[Value]) -> String {
    attenuated_by(&caveats.iter().map(Value::to_string).collect::<Vec<_>>())
}

fn attenuated_by(caveats: &[String]) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(MACAROON.strip_prefix("mc_v1_").unwrap()).unwrap();
    let mut macaroon = Macaroon::decode(&bytes).unwrap();
    for caveat in caveats {
        macaroon.attenuate(caveat);
    }
    format!("mc_v1_{}", URL_SAFE_NO_PAD.encode(macaroon.encode()))
}

/// The JWT of the test vector with changed claims, signed again.
fn signed(change: impl FnOnce(&mut Claims)) -> String {
    let payload = JWT.split('.').nth(1).unwrap();
    let mut claims = Claims::parse(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    change(&mut claims);
    jwt::sign(&claims, keys().signer("").unwrap()).unwrap()
}

#[test]
fn minted_tokens_equal_the_test_vectors() {
    let (scopes, empty, networks) = (["read"].into_iter().collect(), Map::new(), CidrSet::default());
    let token = vector(&scopes, &empty, &networks);
    assert_eq!(token.to_macaroon(ISSUER, "mc", &settings().keyring), MACAROON);
    assert_eq!(token.to_jwt(ISSUER, keys().signer("vec-1").unwrap()).as_deref(), Some(JWT));
}

#[test]
fn test_vector_tokens_are_valid_until_they_expire() {
    for (text, kind) in [(MACAROON, CredentialKind::DerivedMacaroon), (JWT, CredentialKind::DerivedJwt)] {
        let token = checked(text).unwrap();
        assert_eq!((token.kind, token.actor_id.as_str(), token.expire_time), (kind, "user_1", Some(at(3600))));
        assert_eq!(token.key_id.to_string(), "11111111-2222-4333-8444-555555555555");
        assert!(token.scopes.iter().eq(["read"]) && token.metadata.is_empty() && token.is_for(&[]));
        assert_eq!(
            (token.id.as_deref(), token.issuer.as_str()),
            (Some("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"), "https://api.example.com")
        );
        assert_eq!((token.issue_time, token.not_before), (Some(at(0)), Some(at(0))));
        assert!(checked_at(text, at(3600)).is_ok());
        let late = at(3600) + TimeDelta::milliseconds(1);
        assert_eq!(checked_at(text, late), Err(TokenError::Signature), "clock skew does not extend exp");
        assert!(checked_at(text, at(-300)).is_ok(), "clock skew applies to iat and nbf");
        assert_eq!(checked_at(text, at(-301)), Err(TokenError::Signature));
        let other = TenantId(uuid::Uuid::from_u128(1));
        let foreign = settings().check(&Routing::new(&["mc"]).classify(text), &keys(), other, at(1));
        assert_eq!(foreign, Err(TokenError::ForeignTenant));
    }
}

#[test]
fn tokens_of_other_secrets_keys_and_issuers_are_rejected() {
    let routing = Routing::new(&["mc"]);
    let other = TokenSettings {
        keyring: Arc::new(Keyring::new(&"some other secret of 32 characters!!".to_owned().into(), &[])),
        ..settings()
    };
    let check = |settings: &TokenSettings, text, keys: &SigningKeys| {
        settings.check(&routing.classify(text), keys, TenantId::NIL, at(1)).err()
    };
    assert_eq!(check(&other, MACAROON, &keys()), Some(TokenError::Signature));
    assert_eq!(check(&settings(), JWT, &SigningKeys::default()), Some(TokenError::Signature));
    let elsewhere = TokenSettings { issuer: "https://elsewhere.example.com".into(), ..settings() };
    assert_eq!(check(&elsewhere, MACAROON, &keys()), Some(TokenError::Signature));
    assert_eq!(check(&elsewhere, JWT, &keys()), Some(TokenError::Signature));
    let retired =
        TokenSettings { issuers_retired: vec![Retired { value: ISSUER.into(), expires_at: None }], ..elsewhere };
    assert_eq!(check(&retired, JWT, &keys()), None);
    let old = signed(|claims| claims.iss = Some("https://old.example.com".into()));
    assert!(checked_at(&old, at(99)).is_ok());
    assert_eq!(checked_at(&old, at(100)), Err(TokenError::Signature), "a retired issuer expires");
}

#[test]
fn claims_are_validated() {
    type Change = fn(&mut Claims);
    let cases: [(&str, Change, Option<TokenError>); 9] = [
        ("no exp", |claims| claims.exp = None, Some(TokenError::Signature)),
        ("iat in the future", |claims| claims.iat = Some(1_780_000_500), Some(TokenError::Signature)),
        ("no issuer", |claims| claims.iss = None, Some(TokenError::Signature)),
        ("other token type", |claims| claims.tty = Some("access".into()), Some(TokenError::Format)),
        ("derived token type", |claims| claims.tty = Some("derived".into()), None),
        ("no tenant", |claims| claims.nid = None, Some(TokenError::ForeignTenant)),
        ("no sub", |claims| claims.sub = None, Some(TokenError::Signature)),
        ("sub is not a key id", |claims| claims.sub = Some("x".into()), Some(TokenError::Signature)),
        ("invalid acl", |claims| claims.acl = Some(vec!["x".into()]), Some(TokenError::Signature)),
    ];
    for (name, change, expected) in cases {
        assert_eq!(checked(&signed(change)).err(), expected, "{name}");
    }
    let token = checked(&signed(|claims| {
        claims.akid = Some("fac39ef9ebe858148631f90d6286e472593a2076af5b81c3d88bcfb82add4ab2".into());
        claims.vis = Some("public".into());
        claims.custom = json!({"a": 1, "b": 2}).as_object().cloned().unwrap();
        claims.meta = json!({"b": 3}).as_object().cloned();
    }))
    .unwrap();
    assert!(matches!(token.key_id, KeyId::Imported(_)));
    assert_eq!((token.visibility, Value::Object(token.metadata)), (Visibility::Public, json!({"a": 1, "b": 3})));
}

#[test]
fn jwt_header_cannot_select_the_algorithm_or_key() {
    let (message, signature) = JWT.rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    for header in [
        json!({"alg": "none", "kid": "vec-1"}),
        json!({"alg": "HS256", "kid": "vec-1"}),
        json!({"alg": "RS256", "kid": "vec-1"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "EdDSA", "kid": "vec-2"}),
    ] {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        assert!(checked(&format!("{header}.{payload}.{signature}")).is_err(), "{header}");
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"vec-1","crit":["b64"],"b64":false}"#);
    let message = format!("{header}.{payload}");
    let signature = keys().signer("").unwrap().sign(message.as_bytes()).unwrap();
    assert!(checked(&format!("{message}.{signature}")).is_err(), "critical header parameters are not supported");
}

#[test]
fn additional_caveats_attenuate_the_token() {
    let token =
        checked(&attenuated(&[json!({"iss": ISSUER, "exp": 1_780_000_060, "scp": ["read", "write"]})])).unwrap();
    assert_eq!(token.expire_time, Some(at(60)));
    assert!(token.scopes.iter().eq(["read"]), "a caveat cannot add scopes");
    let token = checked(&attenuated(&[json!({"iss": ISSUER, "exp": 1_790_000_000, "scp": []})])).unwrap();
    assert_eq!((token.expire_time, token.scopes.as_slice().len()), (Some(at(3600)), 0));
    let rules = [json!({"iss": ISSUER, "acl": ["10.0.0.0/8"]}), json!({"iss": ISSUER, "acl": ["10.1.0.0/16", "::/0"]})];
    let token = checked(&attenuated(&rules)).unwrap();
    let allows = |address: &str| token.allows(address.parse().ok());
    assert!(allows("10.1.2.3") && !allows("10.2.0.1") && !allows("2001:db8::1") && !token.allows(None));
    for rejected in [
        json!({"scp": ["read"]}),
        json!({"iss": "https://elsewhere.example.com"}),
        json!({"iss": ISSUER, "exp": 1_780_000_000}),
        json!({"iss": ISSUER, "nbf": 1_780_000_400}),
        json!({"iss": ISSUER, "acl": ["x"]}),
        json!("free text"),
    ] {
        assert_eq!(checked(&attenuated(std::slice::from_ref(&rejected))), Err(TokenError::Signature), "{rejected}");
    }
}

/// As [`checked`], with settings that ignore unknown members of caveats.
fn checked_ignoring(text: &str) -> Result<DerivedToken, TokenError> {
    let settings = TokenSettings { ignore_unknown_caveats: true, ..settings() };
    settings.check(&Routing::new(&["mc"]).classify(text), &keys(), TenantId::NIL, at(1))
}

#[test]
fn caveat_with_a_member_that_restricts_nothing_rejects_the_token() {
    for caveat in [
        json!({"iss": ISSUER, "method": "GET"}),
        json!({"iss": ISSUER, "exp": 1_780_000_060, "path": null}),
        json!({"iss": ISSUER, "sub": "11111111-2222-4333-8444-555555555555"}),
        json!({"iss": ISSUER, "nid": "00000000-0000-0000-0000-000000000001"}),
    ] {
        let text = attenuated(std::slice::from_ref(&caveat));
        assert_eq!(checked(&text), Err(TokenError::Signature), "{caveat}");
        assert!(checked_ignoring(&text).is_ok(), "{caveat}");
        let text = attenuated(&[json!({"iss": ISSUER}), caveat, json!({"iss": ISSUER})]);
        assert_eq!(checked(&text), Err(TokenError::Signature), "in any position");
    }
}

#[test]
fn caveat_with_a_duplicate_member_rejects_the_token() {
    for caveat in [
        r#"{"iss":"https://api.example.com","scp":["read"],"scp":["read"]}"#,
        r#"{"iss":"https://api.example.com","exp":1780000060,"exp":1790000000}"#,
        r#"{"iss":"https://api.example.com","aud":["a"],"\u0061ud":["b"]}"#,
    ] {
        let text = attenuated_by(&[caveat.to_owned()]);
        assert_eq!(checked(&text), Err(TokenError::Signature), "{caveat}");
        assert_eq!(checked_ignoring(&text), Err(TokenError::Signature), "{caveat}");
    }
}

#[test]
fn audiences_match_exactly_and_caveats_only_remove_them() {
    let audience = |text: &str| vec![text.to_owned()];
    let unbound = checked(MACAROON).unwrap();
    assert!(unbound.is_for(&[]) && !unbound.is_for(&audience("a")));
    let bound = checked(&signed(|claims| claims.aud = Some(vec!["a".into(), "b".into()]))).unwrap();
    assert!(bound.is_for(&audience("b")) && !bound.is_for(&audience("c")) && !bound.is_for(&[]));
    let restrict =
        |allowed: &str| bound.clone().attenuated(Claims { aud: Some(audience(allowed)), ..Claims::default() });
    let one = restrict("a").unwrap();
    assert!(one.is_for(&audience("a")) && !one.is_for(&audience("b")));
    let none = restrict("c").unwrap();
    assert!(!none.is_for(&audience("c")) && !none.is_for(&[]));
    let added = checked(&attenuated(&[json!({"iss": ISSUER, "aud": "a"})])).unwrap();
    assert!(!added.is_for(&audience("a")) && !added.is_for(&[]));
}

#[test]
fn signing_keys_are_selected_published_and_validated() {
    let mut keys = keys();
    assert_eq!((keys.signer("").unwrap().kid(), keys.signer("other").is_none()), ("vec-1", true));
    let published = keys.public_jwks();
    let x = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg";
    assert_eq!(published, [json!({"kty": "OKP", "crv": "Ed25519", "kid": "vec-1", "x": x, "alg": "EdDSA"})]);
    let more = r#"{"keys":[
        {"kty":"oct","kid":"secret","k":"AAAA","use":"sig"},
        {"kty":"EC","kid":"curve","crv":"P-256","x":"AA","y":"AA","d":"AA"},
        {"kty":"OKP","crv":"Ed25519","kid":"vec-1","x":"AAAA"}]}"#;
    keys.extend(SigningKeys::parse(more).unwrap());
    assert_eq!((keys.len(), keys.public_jwks().len()), (3, 2));
    assert_eq!(keys.public_jwks()[1], json!({"kty": "EC", "kid": "curve", "crv": "P-256", "x": "AA", "y": "AA"}));
    assert!(!format!("{keys:?}").contains("AAEC"));
    let seed = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    for (text, error) in [
        (r#"{"keys":[{"kty":"oct"}]}"#.to_owned(), "key 0 of the set has no kid"),
        ("{}".to_owned(), "is neither a JWK set nor a JWK"),
        ("nonsense".to_owned(), "is neither a JWK set nor a JWK"),
        (
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"k","d":"{seed}","x":"{seed}"}}"#),
            "key 0 of the set has a private key that does not match its public key",
        ),
    ] {
        assert_eq!(SigningKeys::parse(&text).unwrap_err().to_string(), error);
    }
}

proptest! {
    #[test]
    fn caveat_never_widens_a_token(
        exp in proptest::option::of(1_780_000_002_i64..1_790_000_000),
        scp in proptest::option::of(proptest::collection::vec("read|write|admin", 0..4)),
        acl in proptest::option::of(proptest::collection::vec("10\\.[0-9]\\.0\\.0/16", 0..3)),
        aud in proptest::option::of(proptest::collection::vec("[ab]", 0..3)),
        address in "10\\.[0-9]\\.0\\.1",
    ) {
        let mut caveat = json!({"iss": ISSUER});
        for (name, value) in [("exp", json!(exp)), ("scp", json!(scp)), ("acl", json!(acl)), ("aud", json!(aud))] {
            if !value.is_null() {
                caveat[name] = value;
            }
        }
        let (before, after) = (checked(MACAROON).unwrap(), checked(&attenuated(&[caveat])).unwrap());
        prop_assert!(after.expire_time <= before.expire_time);
        prop_assert!(before.scopes.contains_all(after.scopes.as_slice()));
        let address = address.parse().ok();
        prop_assert!(!after.allows(address) || before.allows(address));
        for expected in [vec![], vec!["a".to_owned()], vec!["b".to_owned()]] {
            prop_assert!(!after.is_for(&expected) || before.is_for(&expected));
        }
    }

    #[test]
    fn caveat_is_accepted_only_if_every_member_restricts(
        names in proptest::collection::vec("iss|exp|nbf|scp|acl|aud|jti|sub|vis|[a-z]{1,8}", 0..5),
    ) {
        let value = |name: &str| match name {
            "exp" => json!(1_780_000_060),
            "nbf" => json!(1_780_000_000),
            "scp" | "aud" => json!(["read"]),
            "acl" => json!(["10.0.0.0/8"]),
            _ => json!("x"),
        };
        let mut caveat: Map<String, Value> = names.iter().map(|name| (name.clone(), value(name))).collect();
        caveat.insert("iss".into(), json!(ISSUER));
        let restricts = |name: &String| ["iss", "exp", "nbf", "scp", "acl", "aud"].contains(&name.as_str());
        let expected = caveat.keys().all(restricts);
        // `scope` is the older name of `scp`, and restricts too.
        prop_assume!(!caveat.contains_key("scope"));
        prop_assert_eq!(checked(&attenuated(&[Value::Object(caveat)])).is_ok(), expected);
    }

    #[test]
    fn modified_token_is_rejected(index in 0usize..1000, byte in b'A'..=b'z', jwt in any::<bool>()) {
        let original = if jwt { JWT } else { MACAROON };
        let mut bytes = original.as_bytes().to_vec();
        // The location, which the signature does not cover, ends at 42.
        let index = 42 + index % (bytes.len() - 42);
        prop_assume!(bytes[index] != byte && byte.is_ascii_alphanumeric() && bytes[index] != b'.');
        bytes[index] = byte;
        prop_assert!(checked(std::str::from_utf8(&bytes).unwrap()).is_err());
    }
}

#[test]
fn caveat_can_only_delay_the_start_of_a_macaroon() {
    let caveat = |nbf: i64| json!({"iss": ISSUER, "nbf": at(nbf).timestamp()});
    let start = |caveats: &[Value]| checked_at(&attenuated(caveats), at(10)).unwrap().not_before;
    assert_eq!(start(&[caveat(5), caveat(2)]), Some(at(5)));
    assert_eq!(start(&[caveat(-5), json!({"iss": ISSUER})]), Some(at(0)));
}
