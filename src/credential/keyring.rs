//! The HMAC secrets: one mints, all that are not yet retired for good may check (contract, credentials section 4).

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::clock::Timestamp;

/// Length of an HMAC-SHA256 value, in bytes.
pub(crate) const MAC_LEN: usize = 32;

/// A value that only checks, until it expires.
#[derive(Debug, Clone)]
pub struct Retired<T> {
    /// The value.
    pub value: T,
    /// Valid while now is strictly before it; for ever when absent.
    pub expires_at: Option<Timestamp>,
}

/// The current secret and the retired ones. Neither printable nor readable from outside.
pub struct Keyring {
    current: Secret,
    retired: Box<[Retired<Secret>]>,
}

/// What a secret is used for beside checksums; each use has a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Root keys of macaroons.
    Macaroon,
    /// Sealing page tokens.
    PageToken,
}

/// A secret in the forms in which it is used.
struct Secret {
    checksum: Hmac<Sha256>,
    macaroon: [u8; MAC_LEN],
    page_token: [u8; MAC_LEN],
}

impl<T> Retired<T> {
    /// Whether the value still counts at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expiry| now < expiry)
    }
}

impl Keyring {
    /// A keyring in which `current` mints and all of them check.
    pub fn new(current: &SecretString, retired: &[Retired<SecretString>]) -> Self {
        let retired = retired
            .iter()
            .map(|entry| Retired { value: Secret::new(&entry.value), expires_at: entry.expires_at })
            .collect();
        Self { current: Secret::new(current), retired }
    }

    /// The code of `message` under the current secret.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; MAC_LEN] {
        code(&self.current.checksum, message)
    }

    /// Whether `presented` is the code of `message` under a secret that counts at `now`: the current one first.
    pub(crate) fn verifies(&self, message: &[u8], presented: &[u8; MAC_LEN], now: Timestamp) -> bool {
        self.secrets(now).any(|secret| bool::from(code(&secret.checksum, message).ct_eq(presented)))
    }

    /// The key that makes new things of a purpose.
    pub(crate) fn key(&self, purpose: Purpose) -> &[u8; MAC_LEN] {
        self.current.key(purpose)
    }

    /// The keys that may check things of a purpose at `now`: the current one first.
    pub(crate) fn keys(&self, purpose: Purpose, now: Timestamp) -> impl Iterator<Item = &[u8; MAC_LEN]> {
        self.secrets(now).map(move |secret| secret.key(purpose))
    }

    /// When retired secrets stop to count.
    pub(super) fn retirements(&self) -> impl Iterator<Item = Timestamp> {
        self.retired.iter().filter_map(|entry| entry.expires_at)
    }

    fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let retired = self.retired.iter().filter(move |entry| entry.is_active(now)).map(|entry| &entry.value);
        std::iter::once(&self.current).chain(retired)
    }
}

impl Secret {
    fn new(secret: &SecretString) -> Self {
        let checksum = Hmac::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
        Self {
            macaroon: code(&checksum, b"talos/macaroon/v1/root-key"),
            page_token: code(&checksum, b"talos/pagination/v1/cursor-key"),
            checksum,
        }
    }

    fn key(&self, purpose: Purpose) -> &[u8; MAC_LEN] {
        match purpose {
            Purpose::Macaroon => &self.macaroon,
            Purpose::PageToken => &self.page_token,
        }
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("retired", &self.retired.len()).finish_non_exhaustive()
    }
}

fn code(key: &Hmac<Sha256>, message: &[u8]) -> [u8; MAC_LEN] {
    key.clone().chain_update(message).finalize().into_bytes().into()
}
