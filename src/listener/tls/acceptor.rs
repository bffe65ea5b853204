//! The TLS handshake of a connection.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// For new connections.
    current: ArcSwap<Current>,
    state: Mutex<State>,
    provider: Arc<CryptoProvider>,
    metrics: Metrics,
}

/// What a new connection needs.
struct Current {
    config: Arc<ServerConfig>,
    requires_client_certificate: bool,
    handshake_timeout: Duration,
}

/// What the next configuration is built from.
struct State {
    settings: TlsConfig,
    protocol: Protocol,
    files: TlsFiles,
    resumption: Resumption,
}

/// Other settings of a listener whose files are loaded, for [`TlsAcceptor::apply`].
pub struct PreparedTls {
    state: State,
    current: Current,
}

impl TlsAcceptor {
    /// Loads the files of a listener. `setting` is the setting of its TLS, such as `gateway.listeners.0.tls`, for errors.
    ///
    /// # Errors
    /// [`TlsError`] with the first file that is not usable, and what to do.
    pub fn new(config: &TlsConfig, http2: bool, setting: &str, metrics: &Metrics) -> Result<Self, TlsError> {
        let provider = provider();
        let PreparedTls { state, current } = State::load(config, http2, setting, &provider, metrics)?;
        state.files.announce();
        let (current, state) = (ArcSwap::from_pointee(current), Mutex::new(state));
        Ok(Self(Arc::new(Shared { current, state, provider, metrics: metrics.clone() })))
    }

    /// Loads the files of other settings of the listener. `None` if the settings are the same.
    ///
    /// # Errors
    /// [`TlsError`] with the first file that is not usable.
    pub fn prepare(&self, config: &TlsConfig, http2: bool, setting: &str) -> Result<Option<PreparedTls>, TlsError> {
        let shared = &*self.0;
        {
            let state = self.state();
            if state.settings == *config && state.protocol.http2 == http2 {
                return Ok(None);
            }
        }
        State::load(config, http2, setting, &shared.provider, &shared.metrics).map(Some)
    }

    /// Uses other settings for new connections. No earlier session can be resumed.
    pub fn apply(&self, prepared: PreparedTls) {
        let PreparedTls { state, current } = prepared;
        state.files.announce();
        *self.state() = state;
        self.0.current.store(Arc::new(current));
    }

    /// The files of the certificates.
    pub fn certificate_files(&self) -> Vec<PathBuf> {
        self.state().settings.certificates.iter().map(|pair| pair.certificate.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs the handshake of a connection, within the configured time, and counts it.
    ///
    /// # Errors
    /// [`HandshakeError`]. The client was sent an alert where TLS has one; the stream is dropped.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, TlsInfo), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let current = self.0.current.load_full();
        let limit = current.handshake_timeout;
        let handshake = timeout(limit, current.handshake(stream)).await;
        let result = handshake.unwrap_or(Err(HandshakeError::Timeout(limit)));
        self.0.metrics.handshake(&result);
        result
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
        let mut state = self.state();
        let reloaded = state.files.poll();
        if reloaded == Reloaded::default() {
            return;
        }
        match state.reload(shared, &reloaded) {
            Ok(current) => shared.current.store(Arc::new(current)),
            Err(error) => tracing::error!(%error, "new certificates could not be used"),
        }
    }
}

impl Current {
    async fn handshake<S>(&self, stream: S) -> Result<(TlsStream<S>, TlsInfo), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config));
        let stream = acceptor.accept(stream).await?;
        let info = self.info(stream.get_ref().1)?;
        Ok((stream, info))
    }

    fn info(&self, connection: &ServerConnection) -> Result<TlsInfo, ClientCertificateProblem> {
        let presented = connection.peer_certificates().and_then(<[_]>::first);
        if presented.is_none() && self.requires_client_certificate {
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
}

impl State {
    fn load(
        config: &TlsConfig,
        http2: bool,
        setting: &str,
        provider: &Arc<CryptoProvider>,
        metrics: &Metrics,
    ) -> Result<PreparedTls, TlsError> {
        let protocol = Protocol { min_version: config.min_version, http2 };
        let files = TlsFiles::load(config, setting, provider, metrics.clone())?;
        let state = Self { settings: config.clone(), protocol, files, resumption: Resumption::new()? };
        let current = state.current(provider)?;
        Ok(PreparedTls { state, current })
    }

    fn reload(&mut self, shared: &Shared, reloaded: &Reloaded) -> Result<Current, rustls::Error> {
        if reloaded.authorities {
            // A resumed session is not verified again, so sessions under the earlier authorities must not resume.
            self.resumption = Resumption::new()?;
        }
        self.current(&shared.provider)
    }

    fn current(&self, provider: &Arc<CryptoProvider>) -> Result<Current, rustls::Error> {
        let (files, provider) = (&self.files, Arc::clone(provider));
        let config = self.protocol.server_config(provider, files.resolver(), files.authorities(), &self.resumption)?;
        let client_certificates = self.settings.client_certificates.as_ref();
        Ok(Current {
            config: Arc::new(config),
            requires_client_certificate: client_certificates
                .is_some_and(|config| config.mode == ClientCertificateMode::Required),
            handshake_timeout: self.settings.handshake_timeout.0,
        })
    }
}
