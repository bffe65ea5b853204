use proptest::prelude::*;
use rand::SeedableRng;
use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::clock::Timestamp;
use crate::id::TenantId;

const SECRET: &str = "test-vector-hmac-secret-32-bytes-long!!";
const IDENTIFIER: &str = "QixobFTdaD1U8mvQeXajr8YMeETPhCRFVUfV2uu8fm1xs3Rgo52Z6e7W9kkmh8xc";
const KEY: &str = "ory_ak_v1_QixobFTdaD1U8mvQeXajr8YMeETPhCRFVUfV2uu8fm1xs3Rgo52Z6e7W9kkmh8xc_6XfesSJ5iHvvCJumCHHsKosyw1HQhqGpE2JGxqESDfoG";
const JWT: &str = "eyJhbGciOiJFZERTQSJ9.eyJhY3QiOiJ1c2VyXzEifQ.h9bdT_5ov2fn70-lK_bjzfAA";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(seconds, 0).unwrap()
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn keyring(current: &str, retired: &[Retired<SecretString>]) -> Keyring {
    Keyring::new(&secret(current), retired)
}

fn retired(value: &str, expires_at: Option<Timestamp>) -> Retired<SecretString> {
    Retired { value: secret(value), expires_at }
}

#[test]
fn test_vector_key_is_parsed_and_its_checksum_is_valid() {
    let key = IssuedKey::parse(KEY).unwrap();
    assert_eq!(key.prefix(), "ory_ak");
    assert_eq!(key.issued_at(), 1_780_000_000);
    assert_eq!(key.id().to_string(), "11111111-2222-4333-8444-555555555555");
    assert!(key.checksum_holds(&keyring(SECRET, &[]), at(0)));
    assert!(!key.checksum_holds(&keyring("another secret that is long enough", &[]), at(0)));
}

#[test]
fn checksum_hmac_equals_the_test_vector() {
    let message = format!("ory_ak_v1_{IDENTIFIER}_");
    let code = keyring(SECRET, &[]).sign(message.as_bytes());
    let hex = hex::encode(code);
    assert_eq!(hex, "5225905c0a915f039652c9adf72a157efe279e603758419f333467f40323a9e3");
}

#[test]
fn derived_keys_equal_the_test_vectors() {
    let ring = keyring(SECRET, &[]);
    let key = |purpose| hex::encode(ring.key(purpose));
    assert_eq!(key(Purpose::Macaroon), "7b55acd8df19fd32fe4350f63652d189977bde326612361ca039b4e681d4d0fb");
    assert_eq!(key(Purpose::PageToken), "8d4038db4e4b50693790e40c34825bb42046048d368e38a1ac528378b75229dd");
}

#[test]
fn imported_key_id_equals_the_test_vector() {
    let id = imported_key_id(TenantId::NIL, "sk_live_example");
    assert_eq!(id.to_string(), "fac39ef9ebe858148631f90d6286e472593a2076af5b81c3d88bcfb82add4ab2");
}

#[test]
fn retired_secret_is_accepted_until_it_expires() {
    let key = IssuedKey::parse(KEY).unwrap();
    let ring = keyring("the new secret, at least 32 characters", &[retired(SECRET, Some(at(100)))]);
    assert!(key.checksum_holds(&ring, at(99)));
    assert!(!key.checksum_holds(&ring, at(100)));
    let ring = keyring("the new secret, at least 32 characters", &[retired(SECRET, None)]);
    assert!(key.checksum_holds(&ring, at(i64::from(i32::MAX))));
}

#[test]
fn minted_key_is_parsed_and_its_checksum_is_valid() {
    let ring = keyring(SECRET, &[]);
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let (id, text) = mint("p_v1_x", &ring, at(1_780_000_000), &mut random).unwrap();
    let key = IssuedKey::parse(text.expose_secret()).unwrap();
    assert_eq!((key.id(), key.prefix(), key.issued_at()), (id, "p_v1_x", 1_780_000_000));
    assert!(key.checksum_holds(&ring, at(0)));
}

#[test]
fn credentials_are_classified_by_the_first_matching_shape() {
    let routing = Routing::new(&["mc", "old"]);
    for (text, kind) in [
        (KEY, CredentialKind::Issued),
        (JWT, CredentialKind::DerivedJwt),
        ("mc_v1_AgEX", CredentialKind::DerivedMacaroon),
        ("old_v1_", CredentialKind::DerivedMacaroon),
        ("mc_v2_AgEX", CredentialKind::Imported),
        ("sk_live_example", CredentialKind::Imported),
        ("", CredentialKind::Imported),
        ("eyJ.eyJ.x", CredentialKind::Imported),
        ("eyJa.b", CredentialKind::Imported),
        ("eyJa.b.c.d", CredentialKind::Imported),
        ("eyJa.b.c+", CredentialKind::Imported),
        (&KEY.replace("_v1_Q", "_v1_0"), CredentialKind::Imported),
        (&KEY[..KEY.len() - 40], CredentialKind::Imported),
    ] {
        assert_eq!(routing.classify(text).kind(), kind, "{text}");
    }
}

#[test]
fn malformed_identifier_is_not_an_issued_key() {
    for inner in [
        "1780000000:11111111-2222-4333-8444-55555555555",
        "1780000000:11111111222243338444555555555555",
        "1780000000:11111111-2222-4333-8444-55555555555A",
        "178000000O:11111111-2222-4333-8444-555555555555",
        "99999999999999999999:11111111-2222-4333-8444-55",
        "no colon in here at all, but long enough",
    ] {
        let text = format!("p_v1_{}_{}", bs58::encode(inner).into_string(), "1".repeat(43));
        assert_eq!(IssuedKey::parse(&text), None, "{inner}");
    }
}

proptest! {
    #[test]
    fn classification_never_panics(text in "\\PC{0,200}") {
        Routing::new(&["mc"]).classify(&text);
    }

    #[test]
    fn classification_of_similar_text_never_panics(
        prefix in "[a-z_1v]{0,18}", middle in "[1-9A-Za-z]{0,140}", end in "[1-9A-Za-z]{0,60}"
    ) {
        let text = format!("{prefix}_v1_{middle}_{end}");
        if let Shape::Issued(key) = Routing::new(&["mc"]).classify(&text) {
            key.checksum_holds(&keyring(SECRET, &[]), at(0));
        }
    }

    #[test]
    fn one_changed_character_invalidates_the_checksum(position in 0..KEY.len(), byte in "[1-9A-HJ-NP-Za-km-z]") {
        let mut text = KEY.to_owned();
        text.replace_range(position..=position, &byte);
        prop_assume!(text != KEY);
        let valid = match Routing::new(&["mc"]).classify(&text) {
            Shape::Issued(key) => key.checksum_holds(&keyring(SECRET, &[]), at(0)),
            _ => false,
        };
        prop_assert!(!valid);
    }

    #[test]
    fn minted_keys_round_trip(seed in any::<u64>(), seconds in 0i64..99_999_999_999, prefix in "[A-Za-z0-9_]{1,16}") {
        let ring = keyring(SECRET, &[]);
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let (id, text) = mint(&prefix, &ring, at(seconds), &mut random).unwrap();
        let key = IssuedKey::parse(text.expose_secret()).unwrap();
        prop_assert_eq!((key.id(), key.prefix(), key.issued_at()), (id, prefix.as_str(), seconds));
        prop_assert!(key.checksum_holds(&ring, at(seconds)));
    }
}
