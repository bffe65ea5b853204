//! Why an engine cannot be started.

use crate::config::ConfigErrors;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::store::SchemaError;
use crate::store::StoreError;

/// Why an engine cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A setting is valid but cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The store is not available.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schema of the database is not the one that this version needs.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Metrics of the same names are registered already.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}
