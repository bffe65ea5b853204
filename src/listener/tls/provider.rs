//! The crypto provider of listeners.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use rustls::crypto::aws_lc_rs::{DEFAULT_CIPHER_SUITES, default_provider};

/// The crypto provider of listeners. All suites of TLS 1.2 in it have forward secrecy and authenticated encryption (RFC 9325).
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: DEFAULT_CIPHER_SUITES.to_vec(),
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..default_provider()
    })
}
