//! Versions, cipher suites, key exchange and resumption of a listener.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::version::{TLS12, TLS13};

use super::resolver::CertificateResolver;
use crate::config::TlsVersion;

/// Maximum number of sessions that are kept for clients without tickets.
const SESSIONS_MAX: usize = 1024;

/// The protocols of ALPN, in the order of preference (RFC 7301).
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What does not depend on the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protocol {
    pub(super) min_version: TlsVersion,
    /// Whether HTTP/2 is offered by ALPN.
    pub(super) http2: bool,
}

/// What is needed to resume sessions. It belongs to one listener, because a resumed session is not verified again: one that began at a
/// listener that requests no client certificate must not resume at another one.
#[derive(Clone)]
pub(super) struct Resumption {
    ticketer: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    /// A state with which no earlier session can be resumed.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self { ticketer: Ticketer::new()?, sessions: ServerSessionMemoryCache::new(SESSIONS_MAX) })
    }
}

impl Protocol {
    /// The configuration for connections that are accepted from now on.
    pub(super) fn server_config(
        self,
        provider: Arc<CryptoProvider>,
        certificates: CertificateResolver,
        authorities: Option<Arc<dyn ClientCertVerifier>>,
        resumption: &Resumption,
    ) -> Result<ServerConfig, rustls::Error> {
        let versions: &[_] = match self.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(authorities.unwrap_or_else(|| Arc::new(NoClientAuth)))
            .with_cert_resolver(Arc::new(certificates));
        config.ignore_client_order = true;
        let protocols: &[&[u8]] = if self.http2 { &[HTTP_2, HTTP_1_1] } else { &[HTTP_1_1] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = Arc::clone(&resumption.ticketer);
        config.session_storage = Arc::clone(&resumption.sessions);
        Ok(config)
    }
}
