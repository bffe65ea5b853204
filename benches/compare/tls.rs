//! The TLS certificate of all proxies, and a client that trusts it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::client_stream::ClientStream;
use crate::support::listeners::Listeners;

/// The cipher suite of all TLS connections, as named by OpenSSL.
pub(crate) const CIPHER_SUITE: &str = "TLS_AES_256_GCM_SHA384";

/// A certificate with a key on P-256.
pub(crate) struct Certificate {
    listeners: Listeners,
    /// A PEM file with the certificate.
    pub(crate) file: PathBuf,
    /// A PEM file with the private key.
    pub(crate) key_file: PathBuf,
    /// A PEM file with the certificate and the private key.
    pub(crate) combined_file: PathBuf,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let listeners = Listeners::new();
        let (file, key_file) = listeners.certificate();
        let combined_file = file.with_extension("pem");
        let read = |file| std::fs::read_to_string(file).unwrap();
        std::fs::write(&combined_file, read(&file) + &read(&key_file)).unwrap();
        Self { listeners, file, key_file, combined_file }
    }

    /// The settings of a Keygate listener with this certificate and TLS 1.3.
    pub(crate) fn keygate_listener(&self) -> Value {
        let certificates = [json!({"certificate": self.file, "key": self.key_file})];
        json!({"tls": {"certificates": certificates, "min_version": "1.3"}})
    }

    /// Opens a TLS connection to a port on loopback. It does not resume a session.
    pub(crate) fn connect(&self, port: u16) -> ClientStream {
        self.listeners.connect_to(port)
    }
}
