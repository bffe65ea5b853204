//! The text a caller presents, and which kind of credential its shape makes it (contract, credentials section 5).
//! Knows no storage and no clock: the first matching shape decides, there is no second try.

mod base58;
mod claims;
mod derived;
mod imported;
mod issued;
mod jwk;
mod jwt;
mod keyring;
mod macaroon;

pub use derived::{DerivedToken, NewToken, TokenError, TokenSettings};
pub use imported::imported_key_id;
pub use issued::{IssuedKey, MintError, mint};
pub use jwk::{JwkError, SigningKey, SigningKeys};
pub(crate) use keyring::Purpose;
pub use keyring::{Keyring, Retired};

/// The longest credential that is looked at, in bytes (contract, admin API section 4.2).
pub const CREDENTIAL_MAX: usize = 8192;

/// The kinds of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A key minted here: `<prefix>_v1_<identifier>_<checksum>`.
    Issued,
    /// A key minted elsewhere and registered here.
    Imported,
    /// A signed token derived from a key, three base64url parts.
    DerivedJwt,
    /// A chained token derived from a key, `<prefix>_v1_<base64url>`.
    DerivedMacaroon,
}

/// What the shape of a text says about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// An issued key; its checksum is not yet verified.
    Issued(IssuedKey<'a>),
    /// Anything that has no other shape.
    Imported,
    /// Three base64url parts, the first opening a JSON object.
    DerivedJwt(&'a str),
    /// What follows a configured macaroon prefix and `_v1_`.
    DerivedMacaroon(&'a str),
}

/// Tells the kinds apart.
#[derive(Debug, Clone)]
pub struct Routing {
    macaroon_starts: Box<[Box<str>]>,
}

impl CredentialKind {
    /// The name on the wire and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Imported => "imported",
            Self::DerivedJwt => "derived_jwt",
            Self::DerivedMacaroon => "derived_macaroon",
        }
    }

    /// Whether it is a token derived from a key.
    pub fn is_derived(self) -> bool {
        matches!(self, Self::DerivedJwt | Self::DerivedMacaroon)
    }
}

impl Shape<'_> {
    /// The kind without its parts.
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Issued(_) => CredentialKind::Issued,
            Self::Imported => CredentialKind::Imported,
            Self::DerivedJwt(_) => CredentialKind::DerivedJwt,
            Self::DerivedMacaroon(_) => CredentialKind::DerivedMacaroon,
        }
    }
}

impl Routing {
    /// Routing for the current and the retired macaroon prefixes, given without `_v1_`.
    pub fn new<T: AsRef<str>>(macaroon_prefixes: &[T]) -> Self {
        let macaroon_starts =
            macaroon_prefixes.iter().map(|prefix| format!("{}_v1_", prefix.as_ref()).into()).collect();
        Self { macaroon_starts }
    }

    /// Decides by shape alone, for any text.
    pub fn classify<'a>(&self, text: &'a str) -> Shape<'a> {
        if has_jwt_shape(text) {
            Shape::DerivedJwt(text)
        } else if let Some(body) = self.macaroon_starts.iter().find_map(|start| text.strip_prefix(&**start)) {
            Shape::DerivedMacaroon(body)
        } else if let Some(key) = IssuedKey::parse(text) {
            Shape::Issued(key)
        } else {
            Shape::Imported
        }
    }
}

fn has_jwt_shape(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("eyJ") else {
        return false;
    };
    let mut parts = 0;
    let well_formed = rest.split('.').all(|part| {
        parts += 1;
        !part.is_empty() && part.bytes().all(is_base64url)
    });
    well_formed && parts == 3
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests;
