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
    current: Hmac<Sha256>,
    retired: Box<[Retired<Hmac<Sha256>>]>,
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
        let retired =
            retired.iter().map(|entry| Retired { value: keyed(&entry.value), expires_at: entry.expires_at }).collect();
        Self { current: keyed(current), retired }
    }

    /// The code of `message` under the current secret.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; MAC_LEN] {
        code(&self.current, message)
    }

    /// Whether `presented` is the code of `message` under a secret that counts at `now`: the current one first.
    pub(crate) fn verifies(&self, message: &[u8], presented: &[u8; MAC_LEN], now: Timestamp) -> bool {
        let matches = |key: &Hmac<Sha256>| bool::from(code(key, message).ct_eq(presented));
        matches(&self.current) || self.retired.iter().any(|entry| entry.is_active(now) && matches(&entry.value))
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("retired", &self.retired.len()).finish_non_exhaustive()
    }
}

fn keyed(secret: &SecretString) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length")
}

fn code(key: &Hmac<Sha256>, message: &[u8]) -> [u8; MAC_LEN] {
    key.clone().chain_update(message).finalize().into_bytes().into()
}
