//! The TLS handshake of a connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
pub use tokio_rustls::server::TlsStream;

use super::authorities::client_certificate;
use super::error::{ClientCertificateProblem, HandshakeError, TlsError};
use super::files::{Reloaded, TlsFiles};
use super::metrics::Metrics;
use super::provider::provider;
use super::server_config::{HTTP_2, Protocol, Resumption};
use super::watched::watch_files;
use crate::clock::{Clock, SystemClock};
use crate::config::{ClientCertificateMode, TlsConfig};
use crate::connection::TlsInfo;

/// TLS of one listener. Clones share everything.
#[derive(Clone)]
pub struct TlsAcceptor(Arc<Shared>);

struct Shared {
    /// The configuration for new connections.
    current: ArcSwap<ServerConfig>,
    state: Mutex<State>,
    provider: Arc<CryptoProvider>,
    protocol: Protocol,
    requires_client_certificate: bool,
    handshake_timeout: Duration,
    metrics: Metrics,
}

/// What the next configuration is built from.
struct State {
    files: TlsFiles,
    resumption: Resumption,
}

impl TlsAcceptor {
    /// Loads the files of a listener. `setting` is the setting of its TLS, such as `gateway.listeners.0.tls`, for errors.
    ///
    /// # Errors
    /// [`TlsError`] with the first file that is not usable, and what to do.
    pub fn new(config: &TlsConfig, http2: bool, setting: &str, metrics: &Metrics) -> Result<Self, TlsError> {
        let provider = provider();
        let protocol = Protocol { min_version: config.min_version, http2 };
        let files = TlsFiles::load(config, setting, &provider, metrics.clone())?;
        let state = State { files, resumption: Resumption::new()? };
        let current = state.server_config(protocol, &provider)?;
        let client_certificates = config.client_certificates.as_ref();
        Ok(Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(current),
            state: Mutex::new(state),
            provider,
            protocol,
            requires_client_certificate: client_certificates
                .is_some_and(|config| config.mode == ClientCertificateMode::Required),
            handshake_timeout: config.handshake_timeout.0,
            metrics: metrics.clone(),
        })))
    }

    /// Performs the handshake of a connection, within the configured time, and counts it.
    ///
    /// # Errors
    /// [`HandshakeError`]. The client was sent an alert where TLS has one; the stream is dropped.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, TlsInfo), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = self.0.handshake_timeout;
        let handshake = timeout(limit, self.handshake(stream)).await;
        let result = handshake.unwrap_or(Err(HandshakeError::Timeout(limit)));
        self.0.metrics.handshake(&result);
        result
    }

    async fn handshake<S>(&self, stream: S) -> Result<(TlsStream<S>, TlsInfo), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.0.current.load_full());
        let stream = acceptor.accept(stream).await?;
        let info = self.info(stream.get_ref().1)?;
        Ok((stream, info))
    }

    fn info(&self, connection: &ServerConnection) -> Result<TlsInfo, ClientCertificateProblem> {
        let presented = connection.peer_certificates().and_then(<[_]>::first);
        if presented.is_none() && self.0.requires_client_certificate {
            return Err(ClientCertificateProblem::Absent);
        }
        let client_certificate =
            presented.map(|certificate| client_certificate(certificate, SystemClock.now())).transpose()?;
        Ok(TlsInfo {
            server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
            http2: connection.alpn_protocol() == Some(HTTP_2),
            client_certificate,
        })
    }

    /// Reads the files every second until the future is dropped, and uses what has changed for new connections. Connections that exist
    /// are not affected. A file that is not usable is logged, and its last good content stays in use.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let acceptor = self.clone();
        watch_files(move || acceptor.reload())
    }

    /// Reads the files once.
    fn reload(&self) {
        let shared = &*self.0;
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = state.files.poll();
        if reloaded == Reloaded::default() {
            return;
        }
        match state.reload(shared, &reloaded) {
            Ok(config) => shared.current.store(Arc::new(config)),
            Err(error) => tracing::error!(%error, "new certificates could not be used"),
        }
    }
}

impl State {
    fn reload(&mut self, shared: &Shared, reloaded: &Reloaded) -> Result<ServerConfig, rustls::Error> {
        if reloaded.authorities {
            // A resumed session is not verified again, so sessions under the earlier authorities must not resume.
            self.resumption = Resumption::new()?;
        }
        self.server_config(shared.protocol, &shared.provider)
    }

    fn server_config(&self, protocol: Protocol, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, rustls::Error> {
        let (files, provider) = (&self.files, Arc::clone(provider));
        protocol.server_config(provider, files.resolver(), files.authorities(), &self.resumption)
    }
}
