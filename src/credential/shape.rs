//! Classification of credentials by shape (contract, credentials section 5). The first matching shape decides; there is no
//! fallback to another kind.

use super::issued::IssuedKey;

/// The kinds of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A key created by Keygate: `<prefix>_v1_<identifier>_<checksum>`.
    Issued,
    /// A key created by another system and registered with Keygate.
    Imported,
    /// A JWT derived from a key: three base64url parts.
    DerivedJwt,
    /// A macaroon derived from a key: `<prefix>_v1_<base64url>`.
    DerivedMacaroon,
}

/// A classified credential. Nothing is verified yet.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// An issued key with a well-formed identifier and checksum.
    Issued(IssuedKey<'a>),
    /// Every text that has no other shape.
    Imported,
    /// The whole token: three base64url parts, the first of which starts like the base64url of a JSON object.
    DerivedJwt(&'a str),
    /// The base64url after a configured macaroon prefix and `_v1_`.
    DerivedMacaroon(&'a str),
}

/// Classifies credentials.
#[derive(Debug, Clone)]
pub struct Routing {
    macaroon_prefixes: Box<[Box<str>]>,
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

    /// Whether it is a derived token.
    pub fn is_derived(self) -> bool {
        matches!(self, Self::DerivedJwt | Self::DerivedMacaroon)
    }
}

impl Shape<'_> {
    /// The kind of the credential.
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
    /// Creates the classifier for the current and retired macaroon prefixes, given without `_v1_`.
    pub fn new<T: AsRef<str>>(macaroon_prefixes: &[T]) -> Self {
        let prefixes = macaroon_prefixes.iter().map(|prefix| format!("{}_v1_", prefix.as_ref()).into());
        Self { macaroon_prefixes: prefixes.collect() }
    }

    /// Classifies any text by its shape.
    pub fn classify<'a>(&self, text: &'a str) -> Shape<'a> {
        if has_jwt_shape(text) {
            Shape::DerivedJwt(text)
        } else if let Some(body) = self.macaroon_prefixes.iter().find_map(|prefix| text.strip_prefix(&**prefix)) {
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
