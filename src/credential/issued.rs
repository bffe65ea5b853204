//! Issued keys: `<prefix>_v1_<identifier>_<checksum>` (contract, credentials section 2). The identifier is the Base58 of issue
//! time and UUID, the checksum an HMAC-SHA256 over the preceding text. Minting, parsing and the checksum need no lookup.

use rand::Rng;
use secrecy::SecretString;
use uuid::Uuid;

use super::base58;
use super::keyring::{Keyring, MAC_LEN};
use crate::clock::Timestamp;
use crate::id::{KeyId, parse_canonical_uuid};

/// The reserved prefix of admin keys.
pub const ADMIN_PREFIX: &str = "kg_admin";
const VERSION: &str = "_v1";
const PREFIX_MAX: usize = 16;
const IDENTIFIER_MIN: usize = 20;
const IDENTIFIER_MAX: usize = base58::TEXT_MAX;
const CHECKSUM_MIN: usize = 10;
/// 32 bytes have at most 44 Base58 digits.
const CHECKSUM_MAX: usize = 44;
const DECODED_MIN: usize = 20;
const DECODED_MAX: usize = 60;

/// A parsed issued key. Parsing does not verify the checksum, see [`IssuedKey::checksum_holds`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IssuedKey<'a> {
    /// The text that the checksum covers: prefix, version, identifier and the trailing underscore.
    signed: &'a str,
    prefix: &'a str,
    checksum: &'a str,
    uuid: Uuid,
    issued_at: i64,
}

/// A key cannot be minted at the current time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the current time cannot be encoded in a key; check the system clock")]
pub struct MintError;

/// Mints a key from a random UUID, the issue time `now`, and the checksum under the current secret.
///
/// # Errors
/// [`MintError`] if `now` cannot be encoded in an identifier that [`IssuedKey::parse`] accepts.
pub fn mint(
    prefix: &str,
    keyring: &Keyring,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<(KeyId, SecretString), MintError> {
    let mut random = [0; 16];
    rng.fill_bytes(&mut random);
    let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
    let text = write(prefix, keyring, now.timestamp(), uuid);
    IssuedKey::parse(&text).ok_or(MintError)?;
    Ok((KeyId::Issued(uuid), SecretString::from(text)))
}

fn write(prefix: &str, keyring: &Keyring, seconds: i64, uuid: Uuid) -> String {
    let identifier = bs58::encode(format!("{seconds}:{uuid}")).into_string();
    let signed = format!("{prefix}{VERSION}_{identifier}_");
    let checksum = bs58::encode(keyring.sign(signed.as_bytes())).into_string();
    signed + &checksum
}

impl<'a> IssuedKey<'a> {
    /// Parses an issued key; `None` for text of any other shape. Never panics.
    ///
    /// The prefix may contain `_v1_` but the other parts have no underscore, so the last but one ends the version.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (head, checksum) = text.rsplit_once('_')?;
        let signed = &text[..=head.len()];
        let (prefix, identifier) = head.rsplit_once('_')?;
        let prefix = prefix.strip_suffix(VERSION)?;
        let well_formed = is_prefix(prefix)
            && is_base58(identifier, IDENTIFIER_MIN, IDENTIFIER_MAX)
            && is_base58(checksum, CHECKSUM_MIN, usize::MAX);
        if !well_formed {
            return None;
        }
        let (issued_at, uuid) = decode_identifier(identifier)?;
        Some(Self { signed, prefix, checksum, uuid, issued_at })
    }

    /// The prefix: identifies the installation and the visibility of the key.
    pub fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// The id under which the key is stored.
    pub fn id(&self) -> KeyId {
        KeyId::Issued(self.uuid)
    }

    /// The issue time in the identifier, in seconds since 1970.
    pub fn issued_at(&self) -> i64 {
        self.issued_at
    }

    /// Whether the checksum is valid under the current secret or one that is retired but not expired at `now`.
    ///
    /// The decoded HMACs are compared in constant time. Base58 has exactly one text for each 32 bytes, and the decoding time
    /// depends only on the presented text.
    pub fn checksum_holds(&self, keyring: &Keyring, now: Timestamp) -> bool {
        decode_checksum(self.checksum)
            .is_some_and(|presented| keyring.verifies(self.signed.as_bytes(), &presented, now))
    }
}

impl std::fmt::Debug for IssuedKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedKey").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

fn is_prefix(text: &str) -> bool {
    let fits = (1..=PREFIX_MAX).contains(&text.len());
    fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_base58(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len()) && base58::has_only_digits(text)
}

fn decode_identifier(identifier: &str) -> Option<(i64, Uuid)> {
    let mut buffer = [0; IDENTIFIER_MAX];
    let length = base58::decode(identifier, &mut buffer)?;
    if !(DECODED_MIN..=DECODED_MAX).contains(&length) {
        return None;
    }
    let (seconds, uuid) = std::str::from_utf8(&buffer[..length]).ok()?.split_once(':')?;
    Some((seconds.parse().ok()?, parse_canonical_uuid(uuid)?))
}

fn decode_checksum(checksum: &str) -> Option<[u8; MAC_LEN]> {
    if checksum.len() > CHECKSUM_MAX {
        return None;
    }
    // Larger than an HMAC, so that a longer value is decoded and then rejected by its length.
    let mut buffer = [0; CHECKSUM_MAX];
    let length = base58::decode(checksum, &mut buffer)?;
    buffer[..length].try_into().ok()
}
