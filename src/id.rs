//! Identifiers of tenants, keys and requests, and their text forms.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use rand::RngExt;
use rand::rngs::SmallRng;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

thread_local! {
    /// Generates request ids.
    static GENERATOR: RefCell<SmallRng> = RefCell::new(rand::make_rng());
}

/// Maximum length of a client's request id in bytes; longer ids are replaced (contract, admin API section 3.5).
const REQUEST_ID_MAX: usize = 128;

/// The id of a tenant; the nil UUID in a single-tenant installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub Uuid);

/// The id of a key: the UUID in an issued key, or the digest of tenant and raw key for an imported one.
///
/// Neither form reveals the secret. The two kinds have separate id spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyId {
    /// An issued key: UUID version 4.
    Issued(Uuid),
    /// An imported key: SHA-512/256 of tenant and raw key.
    Imported([u8; 32]),
}

/// The two kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Created by Keygate.
    Issued,
    /// Created by another system and registered with Keygate.
    Imported,
}

/// The id of a request in logs, in the response and in the request to the upstream. Stored as a header value, because it is
/// sent twice per request. Visible ASCII only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl TenantId {
    /// The tenant of a single-tenant installation.
    pub const NIL: Self = Self(Uuid::nil());
    /// The reserved tenant of admin keys. No request selects it by its host, and no key of another tenant is an admin key.
    pub const ADMIN: Self = Self(Uuid::from_u128(0x6b67_5f61_646d_4969_8e00_0000_0000_0001));
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl KeyId {
    /// The kind of the key.
    pub fn kind(self) -> KeyKind {
        match self {
            Self::Issued(_) => KeyKind::Issued,
            Self::Imported(_) => KeyKind::Imported,
        }
    }

    /// Parses the id of a key of `kind`; `None` for a text in any other form.
    pub fn parse(kind: KeyKind, text: &str) -> Option<Self> {
        match kind {
            KeyKind::Issued => Self::parse_issued(text),
            KeyKind::Imported => Self::parse_imported(text),
        }
    }

    /// Parses the id of an issued key: a UUID in canonical form, 36 lower-case characters.
    pub fn parse_issued(text: &str) -> Option<Self> {
        parse_canonical_uuid(text).map(Self::Issued)
    }

    /// Parses the id of an imported key: 64 lower-case hexadecimal digits.
    pub fn parse_imported(text: &str) -> Option<Self> {
        // `hex` reads both cases; only one spelling names a key.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self::Imported(id))
    }
}

impl KeyId {
    /// The text form as a field value.
    pub fn value(self) -> HeaderValue {
        let mut text = [0; Hyphenated::LENGTH];
        let value = match self {
            Self::Issued(uuid) => HeaderValue::from_str(uuid.as_hyphenated().encode_lower(&mut text)),
            Self::Imported(digest) => HeaderValue::try_from(hex::encode(digest)),
        };
        value.unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issued(uuid) => uuid.as_hyphenated().fmt(f),
            Self::Imported(digest) => f.write_str(&hex::encode(digest)),
        }
    }
}

impl RequestId {
    /// Accepts a client's id if it has 1 to 128 visible ASCII characters.
    pub fn sane(text: &str) -> Option<Self> {
        let fits = (1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { HeaderValue::from_str(text).ok().map(Self) } else { None }
    }

    /// Accepts a client's id of 1 to 128 bytes unchanged (contract, admin API section 3.5).
    pub fn from_value(value: &HeaderValue) -> Option<Self> {
        (1..=REQUEST_ID_MAX).contains(&value.len()).then(|| Self(value.clone()))
    }

    /// Generates an id: a random UUID (version 4). The generator of each thread is seeded by the operating system; it is not one for secrets,
    /// which a request id is not.
    pub fn random() -> Self {
        let id = uuid::Builder::from_random_bytes(GENERATOR.with_borrow_mut(SmallRng::random)).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        id.as_hyphenated().encode_lower(&mut text);
        // One allocation; clones share it.
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        Self(value.unwrap_or_else(|_| HeaderValue::from_static("-")))
    }

    /// The text form; empty when a client's id is not UTF-8.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// The id as a header value.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Parses the canonical form only, so that each UUID has exactly one text form.
pub(crate) fn parse_canonical_uuid(text: &str) -> Option<Uuid> {
    let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if canonical { Uuid::try_parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_round_trip_through_text() {
        for text in
            ["11111111-2222-4333-8444-555555555555", "fac39ef9ebe858148631f90d6286e472593a2076af5b81c3d88bcfb82add4ab2"]
        {
            let id = KeyId::parse_issued(text).or_else(|| KeyId::parse_imported(text)).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(id.value(), text);
        }
    }

    #[test]
    fn non_canonical_key_ids_are_rejected() {
        for text in [
            "",
            "11111111-2222-4333-8444-55555555555",
            "11111111222243338444555555555555",
            "AAAAAAAA-2222-4333-8444-555555555555",
            "{11111111-2222-4333-8444-555555555555}",
        ] {
            assert_eq!(KeyId::parse_issued(text), None, "{text}");
        }
        assert_eq!(KeyId::parse_imported(&"F".repeat(64)), None);
        assert_eq!(KeyId::parse_imported(&"f".repeat(62)), None);
        assert_eq!(KeyId::parse_imported(&"f".repeat(66)), None);
        assert_eq!(KeyId::parse_imported(&"g".repeat(64)), None);
        assert_eq!(KeyId::parse_imported(&"é".repeat(32)), None);
    }

    #[test]
    fn request_id_must_have_1_to_128_visible_ascii_characters() {
        assert_eq!(RequestId::sane("req-1").unwrap().as_str(), "req-1");
        assert_eq!(RequestId::sane(&"x".repeat(128)).unwrap().value().len(), 128);
        for invalid in ["", "a b", "a\nb", "é", &"x".repeat(129)] {
            assert_eq!(RequestId::sane(invalid), None);
        }
    }

    #[test]
    fn generated_request_ids_are_distinct_version_4_uuids() {
        let [first, second] = [RequestId::random(), RequestId::random()];
        assert_ne!(first, second);
        let id = parse_canonical_uuid(first.as_str()).unwrap();
        assert_eq!((id.get_version_num(), id.get_variant()), (4, uuid::Variant::RFC4122));
        assert_eq!(first.value(), first.as_str());
    }
}
