//! Metrics of TLS.

use std::path::Path;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::error::HandshakeError;

/// Metrics of all TLS listeners of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    handshakes: IntCounterVec,
    reloads: IntCounterVec,
    expiry: IntGaugeVec,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let handshakes = IntCounterVec::new(
            Opts::new("keygate_tls_handshakes_total", "TLS handshakes of clients, by outcome"),
            &["outcome"],
        )?;
        for outcome in ["succeeded", "timeout", "closed", "client_certificate", "failed"] {
            handshakes.with_label_values(&[outcome]);
        }
        let reloads = IntCounterVec::new(
            Opts::new("keygate_tls_reloads_total", "Changes of certificate files while the process runs, by outcome"),
            &["outcome"],
        )?;
        for outcome in ["succeeded", "failed"] {
            reloads.with_label_values(&[outcome]);
        }
        let expiry = IntGaugeVec::new(
            Opts::new(
                "keygate_tls_certificate_expiry_timestamp_seconds",
                "When a certificate that is in use expires, in seconds since 1970, by its file",
            ),
            &["file"],
        )?;
        registry.register(Box::new(handshakes.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(expiry.clone()))?;
        Ok(Self { handshakes, reloads, expiry })
    }

    pub(super) fn handshake<T>(&self, result: &Result<T, HandshakeError>) {
        let outcome = result.as_ref().err().map_or("succeeded", HandshakeError::outcome);
        self.handshakes.with_label_values(&[outcome]).inc();
    }

    pub(super) fn reload(&self, succeeded: bool) {
        self.reloads.with_label_values(&[if succeeded { "succeeded" } else { "failed" }]).inc();
    }

    /// Removes the expiry of a certificate that is no longer used.
    pub fn remove_expiry(&self, file: &Path) {
        // An error means that it has none.
        let _ = self.expiry.remove_label_values(&[&*file.to_string_lossy()]);
    }

    pub(super) fn expiry(&self, file: &Path, not_after: u64) {
        let seconds = i64::try_from(not_after).unwrap_or(i64::MAX);
        self.expiry.with_label_values(&[&*file.to_string_lossy()]).set(seconds);
    }
}
