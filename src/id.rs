//! Identifiers of tenants, keys and requests, and their text forms.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// The longest request id that is passed on as given, in bytes (contract, admin API section 3.5).
const REQUEST_ID_MAX: usize = 128;

/// Whom a key belongs to. The nil UUID where there is only one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub Uuid);

/// Names a key: the UUID inside an issued key, or the tenant-bound digest of an imported one.
///
/// Neither form reveals the secret. The two kinds can never name each other's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyId {
    /// An issued key: UUID version 4.
    Issued(Uuid),
    /// An imported key: SHA-512/256 of tenant and raw key.
    Imported([u8; 32]),
}

/// The two kinds of keys. Their records never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Minted here.
    Issued,
    /// Minted elsewhere, registered here.
    Imported,
}

/// Names one request in logs, answers and towards the upstream. Kept as the field value that it is sent as, twice in each
/// request; visible ASCII characters only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl TenantId {
    /// The tenant of an installation that has only one.
    pub const NIL: Self = Self(Uuid::nil());
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl KeyId {
    /// The kind of key that it names.
    pub fn kind(self) -> KeyKind {
        match self {
            Self::Issued(_) => KeyKind::Issued,
            Self::Imported(_) => KeyKind::Imported,
        }
    }

    /// Reads the id of a key of that kind; a text of another form is the id of no such key.
    pub fn parse(kind: KeyKind, text: &str) -> Option<Self> {
        match kind {
            KeyKind::Issued => Self::parse_issued(text),
            KeyKind::Imported => Self::parse_imported(text),
        }
    }

    /// Reads the id of an issued key: a UUID in its canonical form, 36 lower-case characters.
    pub fn parse_issued(text: &str) -> Option<Self> {
        parse_canonical_uuid(text).map(Self::Issued)
    }

    /// Reads the id of an imported key: 64 lower-case hexadecimal digits.
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

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issued(uuid) => uuid.as_hyphenated().fmt(f),
            Self::Imported(digest) => f.write_str(&hex::encode(digest)),
        }
    }
}

impl RequestId {
    /// Takes over a client's id if it is 1 to 128 visible ASCII characters.
    pub fn sane(text: &str) -> Option<Self> {
        let fits = (1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { HeaderValue::from_str(text).ok().map(Self) } else { None }
    }

    /// A fresh id, UUID version 4.
    pub fn random() -> Self {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        id.as_hyphenated().encode_lower(&mut text);
        // Shared by all who hold the id, with one allocation.
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        Self(value.unwrap_or_else(|_| HeaderValue::from_static("-")))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// The field value.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Only the canonical spelling: other spellings of the same UUID would be other texts under the same checksum.
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
        }
    }

    #[test]
    fn only_canonical_spellings_are_ids() {
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
    fn a_request_id_is_kept_only_when_it_cannot_break_a_line() {
        assert_eq!(RequestId::sane("req-1").unwrap().as_str(), "req-1");
        assert_eq!(RequestId::sane(&"x".repeat(128)).unwrap().value().len(), 128);
        for bad in ["", "a b", "a\nb", "é", &"x".repeat(129)] {
            assert_eq!(RequestId::sane(bad), None);
        }
    }

    #[test]
    fn fresh_request_ids_are_uuids_of_version_4_that_differ() {
        let [first, second] = [RequestId::random(), RequestId::random()];
        assert_ne!(first, second);
        let id = parse_canonical_uuid(first.as_str()).unwrap();
        assert_eq!((id.get_version_num(), id.get_variant()), (4, uuid::Variant::RFC4122));
        assert_eq!(first.value(), first.as_str());
    }
}
