//! The keyring of HMAC secrets: the current one signs; the current one and unexpired retired ones verify (contract,
//! credentials section 4).

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::clock::Timestamp;

/// Length of an HMAC-SHA256, in bytes.
pub(crate) const MAC_LEN: usize = 32;

/// A retired secret or issuer: accepted in verification until it expires, not used for new credentials.
#[derive(Debug, Clone)]
pub struct Retired<T> {
    /// The retired value.
    pub value: T,
    /// Exclusive end of validity; `None` means that it does not expire.
    pub expires_at: Option<Timestamp>,
}

/// The current secret and the retired ones. `Debug` does not print them.
pub struct Keyring {
    current: Secret,
    retired: Box<[Retired<Secret>]>,
}

/// Purposes of keys that are derived from a secret. Checksums use the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Root keys of macaroons.
    Macaroon,
    /// Encryption of page tokens.
    PageToken,
    /// Encryption of the sessions of the console.
    ConsoleSession,
}

/// A key of the audit trail: an HMAC that has been given the key, but no message.
pub type AuditMac = Hmac<Sha256>;

/// The keys of one secret.
struct Secret {
    checksum: Hmac<Sha256>,
    audit: AuditMac,
    macaroon: [u8; MAC_LEN],
    page_token: [u8; MAC_LEN],
    console_session: [u8; MAC_LEN],
}

impl<T> Retired<T> {
    /// Whether the value is accepted at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expiry| now < expiry)
    }
}

impl Keyring {
    /// Creates a keyring that signs with `current` and verifies with all secrets.
    pub fn new(current: &SecretString, retired: &[Retired<SecretString>]) -> Self {
        let retired = retired
            .iter()
            .map(|entry| Retired { value: Secret::new(&entry.value), expires_at: entry.expires_at })
            .collect();
        Self { current: Secret::new(current), retired }
    }

    /// The HMAC of `message` under the current secret.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; MAC_LEN] {
        hmac(&self.current.checksum, message)
    }

    /// Whether `presented` is the HMAC of `message` under a secret that is accepted at `now`. Tries the current one first.
    pub(crate) fn verifies(&self, message: &[u8], presented: &[u8; MAC_LEN], now: Timestamp) -> bool {
        self.secrets(now).any(|secret| bool::from(hmac(&secret.checksum, message).ct_eq(presented)))
    }

    /// The key of the current secret for a purpose.
    pub(crate) fn key(&self, purpose: Purpose) -> &[u8; MAC_LEN] {
        self.current.key(purpose)
    }

    /// The keys for a purpose that are accepted at `now`, the current one first.
    pub(crate) fn keys(&self, purpose: Purpose, now: Timestamp) -> impl Iterator<Item = &[u8; MAC_LEN]> {
        self.secrets(now).map(move |secret| secret.key(purpose))
    }

    /// The keys of the audit trail, the one of the current secret first. Those of expired secrets are included: what was written
    /// before the expiry stays verifiable.
    pub fn audit_macs(&self) -> impl Iterator<Item = AuditMac> {
        let retired = self.retired.iter().map(|entry| &entry.value);
        std::iter::once(&self.current).chain(retired).map(|secret| secret.audit.clone())
    }

    /// The expiry times of retired secrets.
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
        let audit = hmac(&checksum, b"keygate/audit/v1/key");
        Self {
            audit: Hmac::new_from_slice(&audit).expect("HMAC takes keys of any length"),
            macaroon: hmac(&checksum, b"talos/macaroon/v1/root-key"),
            page_token: hmac(&checksum, b"talos/pagination/v1/cursor-key"),
            console_session: hmac(&checksum, b"keygate/console/v1/session-key"),
            checksum,
        }
    }

    fn key(&self, purpose: Purpose) -> &[u8; MAC_LEN] {
        match purpose {
            Purpose::Macaroon => &self.macaroon,
            Purpose::PageToken => &self.page_token,
            Purpose::ConsoleSession => &self.console_session,
        }
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("retired", &self.retired.len()).finish_non_exhaustive()
    }
}

fn hmac(key: &Hmac<Sha256>, message: &[u8]) -> [u8; MAC_LEN] {
    key.clone().chain_update(message).finalize().into_bytes().into()
}
