//! Fuzz targets: invariants that must hold for any input. Fuzzing generates inputs; every test run replays the corpora.

mod http1;
mod http1_response;

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use keygate::cidr::CidrSet;
use keygate::clock::Timestamp;
use keygate::credential::{DerivedToken, Keyring, NewToken, Routing, Shape, SigningKeys, TokenSettings};
use keygate::duration::{format_go, parse_extended, parse_go};
use keygate::id::{KeyId, KeyKind, TenantId};
use keygate::key::{EffectiveStatus, KeyFilter, open_page_token, seal_page_token};
use keygate::policy::{Scopes, Visibility};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Map;
use sha2::Sha256;

pub use http1::http1_request;
pub use http1_response::http1_response;

const PREFIX: &str = "mc";
const ISSUER: &str = "https://keys.example.com";
const MAC_LEN: usize = 32;
/// The bytes before the signature of a macaroon: end of the caveats, type and length of the signature field.
const SIGNATURE_HEADER: [u8; 3] = [0, 6, 32];

static KEYRING: LazyLock<Arc<Keyring>> =
    LazyLock::new(|| Arc::new(Keyring::new(&"a secret that signed no fuzzing input!".to_owned().into(), &[])));
static ROUTING: LazyLock<Routing> = LazyLock::new(|| Routing::new(&[PREFIX, "old"]));
static SETTINGS: LazyLock<TokenSettings> = LazyLock::new(|| TokenSettings {
    issuer: ISSUER.into(),
    issuers_retired: Vec::new(),
    clock_skew: chrono::TimeDelta::zero(),
    keyring: Arc::clone(&KEYRING),
    ignore_unknown_caveats: false,
});
static MACAROON: LazyLock<Vec<u8>> = LazyLock::new(macaroon_bytes);
static PAGE_TOKEN: LazyLock<String> = LazyLock::new(|| {
    let position = (TenantId::NIL, parent());
    seal_page_token(position, &KEYRING, Timestamp::UNIX_EPOCH, &mut StdRng::seed_from_u64(1))
});

/// Every text is classified, and no credential from another source has a valid checksum or signature.
pub fn credential(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match ROUTING.classify(text) {
        Shape::Issued(key) => assert!(!key.checksum_holds(&KEYRING, Timestamp::UNIX_EPOCH)),
        Shape::Imported => {}
        token => assert!(check(&token).is_none()),
    }
}

/// No input is a valid macaroon, and as an additional caveat of a valid one it does not widen it.
pub fn macaroon(bytes: &[u8]) {
    if bytes != *MACAROON {
        assert!(verified(bytes).is_none());
    }
    let original = verified(&MACAROON).expect("the macaroon is valid");
    assert!(verified(&attenuated(&MACAROON, bytes)).is_none_or(|token| is_not_wider(&token, &original)));
}

/// A parsed filter in canonical form parses to the same filter.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(filter) = KeyFilter::parse(text) else { return };
    let actor = filter.actor_id.as_ref().map(|actor| format!("actor_id=\"{actor}\""));
    let status = filter.state.map(|status: EffectiveStatus| format!("status={}", status.name()));
    let clauses: Vec<String> = actor.into_iter().chain(status).collect();
    assert_eq!(KeyFilter::parse(&clauses.join(" AND ")), Ok(filter));
}

/// A parsed time to live round-trips through Go's format, and both grammars agree on common inputs.
pub fn ttl(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let extended = parse_extended(text);
    if let Ok(duration) = extended {
        assert_eq!(parse_go(&format_go(duration)), Ok(duration));
    }
    if let Ok(duration) = parse_go(text) {
        assert_eq!(extended, Ok(duration));
    }
}

/// Only the token created here is accepted, and every modification of it is rejected.
pub fn page_token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let open = |text: &str| open_page_token(text, &KEYRING, (TenantId::NIL, KeyKind::Issued), Timestamp::UNIX_EPOCH);
    assert!(text == *PAGE_TOKEN || open(text).is_err());
    assert_eq!(open(&PAGE_TOKEN), Ok(parent()));
    for (at, byte) in bytes.iter().enumerate() {
        let mut modified = URL_SAFE_NO_PAD.decode(&*PAGE_TOKEN).expect("tokens are base64url");
        let length = modified.len();
        modified[at % length] ^= byte;
        assert!(*byte == 0 || open(&URL_SAFE_NO_PAD.encode(modified)).is_err());
    }
}

fn check(token: &Shape<'_>) -> Option<DerivedToken> {
    SETTINGS.check(token, &SigningKeys::default(), TenantId::NIL, Timestamp::UNIX_EPOCH).ok()
}

fn verified(bytes: &[u8]) -> Option<DerivedToken> {
    check(&Shape::DerivedMacaroon(&URL_SAFE_NO_PAD.encode(bytes)))
}

fn parent() -> KeyId {
    KeyId::parse_issued("018f2c3a-5b7d-4e1f-8a9b-0c1d2e3f4a5b").expect("the id is a UUID")
}

fn scopes() -> Scopes {
    ["read", "write"].map(str::to_owned).into_iter().collect()
}

fn macaroon_bytes() -> Vec<u8> {
    let text = NewToken {
        jti: "j".into(),
        key_id: parent(),
        tenant: TenantId::NIL,
        actor_id: "user_1",
        scopes: &scopes(),
        metadata: &Map::new(),
        networks: &CidrSet::parse(&["10.0.0.0/8"]).expect("the range is valid"),
        visibility: Visibility::Secret,
        now: Timestamp::UNIX_EPOCH,
        expire_time: Timestamp::from_timestamp(3600, 0).expect("the time is valid"),
        audiences: &["a".to_owned(), "b".to_owned()],
        custom: &Map::new(),
    }
    .to_macaroon(ISSUER, PREFIX, &KEYRING);
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_start_matches("mc_v1_")).expect("macaroons are base64url");
    let attenuated = attenuated(&bytes, br#"{"iss":"https://keys.example.com"}"#);
    assert!(verified(&attenuated).is_some(), "attenuation must produce a valid macaroon");
    bytes
}

/// Adds a caveat to a macaroon without the root key, as any holder can.
fn attenuated(macaroon: &[u8], caveat: &[u8]) -> Vec<u8> {
    let (rest, signature) = macaroon.split_at(macaroon.len() - MAC_LEN);
    let mut bytes = rest.strip_suffix(&SIGNATURE_HEADER).expect("a signature ends a macaroon").to_vec();
    bytes.push(2);
    let mut length = caveat.len();
    while length >= 0x80 {
        bytes.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend_from_slice(caveat);
    bytes.push(0);
    bytes.extend_from_slice(&SIGNATURE_HEADER);
    let mac = Hmac::<Sha256>::new_from_slice(signature).expect("HMAC takes keys of any length");
    bytes.extend_from_slice(&mac.chain_update(caveat).finalize().into_bytes());
    bytes
}

/// Whether `token` permits nothing that `original` does not permit.
fn is_not_wider(token: &DerivedToken, original: &DerivedToken) -> bool {
    let addresses = ["10.0.0.1", "10.255.1.2", "192.0.2.1", "::1"].map(|text| text.parse().ok());
    let audiences = ["a", "b", "c"].map(|name| vec![name.to_owned()]);
    token.scopes.iter().all(|scope| original.scopes.iter().any(|other| other == scope))
        && token.expire_time.is_some_and(|end| Some(end) <= original.expire_time)
        && addresses.into_iter().all(|address| !token.allows(address) || original.allows(address))
        && audiences.iter().all(|audience| !token.is_for(audience) || original.is_for(audience))
        && !token.is_for(&[])
        && (&token.key_id, &token.actor_id) == (&original.key_id, &original.actor_id)
}
