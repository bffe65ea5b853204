//! The certificate that all proxies have, and clients for it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::client_stream::ClientStream;
use crate::support::listeners::Listeners;

/// What every connection with TLS uses, by its name in OpenSSL.
pub(crate) const CIPHER_SUITE: &str = "TLS_AES_256_GCM_SHA384";

/// A certificate whose key is on P-256.
pub(crate) struct Certificate {
    listeners: Listeners,
    /// PEM files: the certificate, its key, and both.
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) both: PathBuf,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let listeners = Listeners::new();
        let (file, key) = listeners.certificate();
        let both = file.with_extension("pem");
        let read = |file| std::fs::read_to_string(file).unwrap();
        std::fs::write(&both, read(&file) + &read(&key)).unwrap();
        Self { listeners, file, key, both }
    }

    /// A listener of Keygate with it.
    pub(crate) fn keygate_listener(&self) -> Value {
        let certificates = [json!({"certificate": self.file, "key": self.key})];
        json!({"tls": {"certificates": certificates, "min_version": "1.3"}})
    }

    /// A new connection, which resumes no earlier session.
    pub(crate) fn connect(&self, port: u16) -> ClientStream {
        self.listeners.connect_to(port)
    }
}
