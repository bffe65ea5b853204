//! What holds for any input, target by target. Fuzzing feeds new inputs; every test run feeds those of the corpora.

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

const PREFIX: &str = "mc";
const ISSUER: &str = "https://keys.example.com";
const MAC_LEN: usize = 32;
/// What every macaroon ends with before its signature: the end of the caveats, and the field's type and length.
const BEFORE_SIGNATURE: [u8; 3] = [0, 6, 32];

static KEYRING: LazyLock<Arc<Keyring>> =
    LazyLock::new(|| Arc::new(Keyring::new(&"a secret that no input was made with!!".to_owned().into(), &[])));
static ROUTING: LazyLock<Routing> = LazyLock::new(|| Routing::new(&[PREFIX, "old"]));
static SETTINGS: LazyLock<TokenSettings> = LazyLock::new(|| TokenSettings {
    issuer: ISSUER.into(),
    issuers_retired: Vec::new(),
    clock_skew: chrono::TimeDelta::zero(),
    keyring: Arc::clone(&KEYRING),
});
static MACAROON: LazyLock<Vec<u8>> = LazyLock::new(macaroon_bytes);
static PAGE_TOKEN: LazyLock<String> = LazyLock::new(|| {
    let place = (TenantId::NIL, parent());
    seal_page_token(place, &KEYRING, Timestamp::UNIX_EPOCH, &mut StdRng::seed_from_u64(1))
});

/// A text of any kind is classified, and none that was not minted here has a checksum or a signature that holds.
pub fn credential(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match ROUTING.classify(text) {
        Shape::Issued(key) => assert!(!key.checksum_holds(&KEYRING, Timestamp::UNIX_EPOCH)),
        Shape::Imported => {}
        token => assert!(check(&token).is_none()),
    }
}

/// Bytes are no macaroon of ours, and as one more caveat of one that is they make it no stronger.
pub fn macaroon(bytes: &[u8]) {
    if bytes != *MACAROON {
        assert!(opened(bytes).is_none());
    }
    let whole = opened(&MACAROON).expect("the macaroon is genuine");
    assert!(opened(&narrowed(&MACAROON, bytes)).is_none_or(|narrowed| is_no_stronger(&narrowed, &whole)));
}

/// A filter that is read can be written in the simplest way and is read as the same again.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(filter) = KeyFilter::parse(text) else { return };
    let actor = filter.actor_id.as_ref().map(|actor| format!("actor_id=\"{actor}\""));
    let state = filter.state.map(|state: EffectiveStatus| format!("status={}", state.name()));
    let clauses: Vec<String> = actor.into_iter().chain(state).collect();
    assert_eq!(KeyFilter::parse(&clauses.join(" AND ")), Ok(filter));
}

/// A time to live that is read can be written in Go's way; what both grammars take means the same.
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

/// No text opens a page but the one sealed here, and no change of that one does.
pub fn page_token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let opens = |text: &str| open_page_token(text, &KEYRING, (TenantId::NIL, KeyKind::Issued), Timestamp::UNIX_EPOCH);
    assert!(text == *PAGE_TOKEN || opens(text).is_err());
    assert_eq!(opens(&PAGE_TOKEN), Ok(parent()));
    for (at, byte) in bytes.iter().enumerate() {
        let mut changed = URL_SAFE_NO_PAD.decode(&*PAGE_TOKEN).expect("tokens are base64url");
        let length = changed.len();
        changed[at % length] ^= byte;
        assert!(*byte == 0 || opens(&URL_SAFE_NO_PAD.encode(changed)).is_err());
    }
}

fn check(token: &Shape<'_>) -> Option<DerivedToken> {
    SETTINGS.check(token, &SigningKeys::default(), TenantId::NIL, Timestamp::UNIX_EPOCH).ok()
}

fn opened(bytes: &[u8]) -> Option<DerivedToken> {
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
        networks: &CidrSet::parse(&["10.0.0.0/8"]).expect("the range is one"),
        visibility: Visibility::Secret,
        now: Timestamp::UNIX_EPOCH,
        expire_time: Timestamp::from_timestamp(3600, 0).expect("the time is one"),
        audiences: &["a".to_owned(), "b".to_owned()],
        custom: &Map::new(),
    }
    .to_macaroon(ISSUER, PREFIX, &KEYRING);
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_start_matches("mc_v1_")).expect("macaroons are base64url");
    let narrowed = narrowed(&bytes, br#"{"iss":"https://keys.example.com"}"#);
    assert!(opened(&narrowed).is_some(), "what narrows here makes no macaroons that are read");
    bytes
}

/// The macaroon with one more caveat, made as any holder can make it: without the root key.
fn narrowed(macaroon: &[u8], caveat: &[u8]) -> Vec<u8> {
    let (rest, signature) = macaroon.split_at(macaroon.len() - MAC_LEN);
    let mut bytes = rest.strip_suffix(&BEFORE_SIGNATURE).expect("a signature ends a macaroon").to_vec();
    bytes.push(2);
    let mut length = caveat.len();
    while length >= 0x80 {
        bytes.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend_from_slice(caveat);
    bytes.push(0);
    bytes.extend_from_slice(&BEFORE_SIGNATURE);
    let mac = Hmac::<Sha256>::new_from_slice(signature).expect("HMAC takes keys of any length");
    bytes.extend_from_slice(&mac.chain_update(caveat).finalize().into_bytes());
    bytes
}

fn is_no_stronger(narrowed: &DerivedToken, whole: &DerivedToken) -> bool {
    let addresses = ["10.0.0.1", "10.255.1.2", "192.0.2.1", "::1"].map(|text| text.parse().ok());
    let audiences = ["a", "b", "c"].map(|name| vec![name.to_owned()]);
    narrowed.scopes.iter().all(|scope| whole.scopes.iter().any(|other| other == scope))
        && narrowed.expire_time.is_some_and(|end| Some(end) <= whole.expire_time)
        && addresses.into_iter().all(|address| !narrowed.allows(address) || whole.allows(address))
        && audiences.iter().all(|audience| !narrowed.is_for(audience) || whole.is_for(audience))
        && !narrowed.is_for(&[])
        && (&narrowed.key_id, &narrowed.actor_id) == (&whole.key_id, &whole.actor_id)
}
