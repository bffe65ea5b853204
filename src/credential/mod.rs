//! Credentials: the text that a client presents. Classification, minting and verification, without storage or a clock.

mod base58;
mod claims;
mod derived;
mod imported;
mod issued;
mod jwk;
mod jwt;
mod keyring;
mod macaroon;
mod sealed;
mod shape;

pub use derived::{DerivedToken, NewToken, TokenError, TokenSettings};
pub use imported::imported_key_id;
pub use issued::{ADMIN_PREFIX, IssuedKey, MintError, mint};
pub use jwk::{JwkError, SigningKey, SigningKeys};
pub(crate) use keyring::Purpose;
pub use keyring::{AuditMac, Keyring, Retired};
pub(crate) use sealed::{open, seal};
pub use shape::{CredentialKind, Routing, Shape};

/// Maximum length of a credential, in bytes (contract, admin API section 4.2).
pub const CREDENTIAL_MAX: usize = 8192;

#[cfg(test)]
mod tests;
