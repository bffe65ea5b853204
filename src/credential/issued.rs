//! Issued keys: `<prefix>_v1_<identifier>_<checksum>` (contract, credentials section 2). Minting and parsing of the
//! text, checked without any lookup.

use rand::Rng;
use secrecy::SecretString;
use uuid::Uuid;

use super::base58;
use super::keyring::{Keyring, MAC_LEN};
use crate::clock::Timestamp;
use crate::id::{KeyId, parse_canonical_uuid};

const VERSION: &str = "_v1_";
const PREFIX_MAX: usize = 16;
const IDENTIFIER_MIN: usize = 20;
const IDENTIFIER_MAX: usize = base58::TEXT_MAX;
const CHECKSUM_MIN: usize = 10;
/// 32 bytes take 43 or 44 characters of Base58 at the most.
const CHECKSUM_MAX: usize = 44;
const DECODED_MIN: usize = 20;
const DECODED_MAX: usize = 60;

/// The parts of a text in the shape of an issued key. The shape proves nothing: see [`IssuedKey::checksum_holds`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IssuedKey<'a> {
    /// Everything the checksum covers: prefix, version, identifier and the trailing underscore.
    signed: &'a str,
    prefix: &'a str,
    checksum: &'a str,
    uuid: Uuid,
    issued_at: i64,
}

/// Why a key could not be minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock reads a time that no key can carry; set the system clock")]
pub struct MintError;

/// Makes a key: a fresh UUID, the time of issue, and the checksum under the current secret.
///
/// # Errors
/// [`MintError`] when the identifier of `now` would not parse back.
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
    let signed = format!("{prefix}{VERSION}{identifier}_");
    let checksum = bs58::encode(keyring.sign(signed.as_bytes())).into_string();
    signed + &checksum
}

impl<'a> IssuedKey<'a> {
    /// Takes a text apart, or tells that it has not the shape of an issued key. Never panics, on any text.
    ///
    /// The prefix may itself contain `_v1_`, the two other parts cannot: so the last `_v1_` ends the prefix.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (signed_len, checksum) = text.rsplit_once('_').map(|(head, tail)| (head.len() + 1, tail))?;
        let signed = &text[..signed_len];
        let (prefix, identifier) = text[..signed_len - 1].rsplit_once(VERSION)?;
        let shaped = is_prefix(prefix)
            && is_base58(identifier, IDENTIFIER_MIN, IDENTIFIER_MAX)
            && is_base58(checksum, CHECKSUM_MIN, usize::MAX);
        if !shaped {
            return None;
        }
        let (issued_at, uuid) = decode_identifier(identifier)?;
        Some(Self { signed, prefix, checksum, uuid, issued_at })
    }

    /// The prefix, which tells who minted the key and for what visibility.
    pub fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// The id under which the record is stored.
    pub fn id(&self) -> KeyId {
        KeyId::Issued(self.uuid)
    }

    /// When the key says it was issued, in seconds since 1970.
    pub fn issued_at(&self) -> i64 {
        self.issued_at
    }

    /// Whether a secret that counts at `now` made the checksum.
    ///
    /// Codes are compared whole, in constant time, after decoding: Base58 has one text for each 32 bytes, and how long
    /// decoding takes depends on the presented text alone.
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
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l');
    (min..=max).contains(&text.len()) && text.bytes().all(alphabet)
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
    // One byte more than a code has, so that a longer value is told from a code instead of overflowing.
    let mut buffer = [0; CHECKSUM_MAX];
    let length = base58::decode(checksum, &mut buffer)?;
    buffer[..length].try_into().ok()
}
