//! Sealed texts: encrypted and authenticated under a key of the keyring, opaque to who carries them.
//!
//! A sealed text is the base64url of a nonce and a ciphertext; the cipher is XChaCha20-Poly1305.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rand::Rng;

use super::keyring::{Keyring, Purpose};
use crate::clock::Timestamp;

const NONCE_LEN: usize = 24;

/// Encrypts a text under the current secret.
pub(crate) fn seal(text: &str, keyring: &Keyring, purpose: Purpose, rng: &mut dyn Rng) -> String {
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    // Encryption fails only above 256 GiB. The text without a ciphertext would be rejected.
    let ciphertext = cipher(keyring.key(purpose)).encrypt(&XNonce::from(nonce), text.as_bytes());
    URL_SAFE_NO_PAD.encode([&nonce[..], &ciphertext.unwrap_or_default()].concat())
}

/// Decrypts a text that was sealed for the same purpose under a secret that is accepted at `now`; `None` for any other text, and for one
/// of more than `max` bytes.
pub(crate) fn open(sealed: &str, keyring: &Keyring, purpose: Purpose, now: Timestamp, max: usize) -> Option<String> {
    if sealed.len() > max {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(sealed.trim_end_matches('=')).ok()?;
    let (nonce, ciphertext) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let nonce = XNonce::from(*nonce);
    let text = keyring.keys(purpose, now).find_map(|key| cipher(key).decrypt(&nonce, ciphertext).ok())?;
    String::from_utf8(text).ok()
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}
