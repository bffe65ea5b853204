//! Why the process cannot start.

use crate::config::ConfigErrors;
use crate::engine::EngineError;
use crate::gateway::{GatewayError, UpstreamsError};
use crate::listener::tls::TlsError;
use crate::store::{SchemaError, StoreError};

/// Why Keygate cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A setting is valid but cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A listener, a thread or a file is not available.
    #[error("{what}: {cause}")]
    Io {
        /// What failed.
        what: String,
        /// The cause.
        cause: std::io::Error,
    },
    /// The store is not available.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schema of the database is not the one that this version needs.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The engine cannot be started.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The gateway cannot be started.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The upstreams cannot be set up.
    #[error(transparent)]
    Upstreams(#[from] UpstreamsError),
    /// The files of certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// External authorization cannot be started.
    #[error("external authorization cannot be served: {0}")]
    ExternalAuth(std::io::Error),
    /// Metrics are registered already.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl AppError {
    pub(crate) fn io(what: impl Into<String>, cause: std::io::Error) -> Self {
        Self::Io { what: what.into(), cause }
    }
}
