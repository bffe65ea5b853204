//! Errors of the database.

use sqlx::Error;

use crate::store::error::StoreError;

/// The effect of an error on its connection and its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection is unusable.
    Broken,
    /// The database rolled the transaction back; it can be tried again.
    RolledBack,
    /// The statement failed; the connection is usable.
    Statement,
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => Self::Broken,
            Error::Database(error) => match error.code().as_deref() {
                Some("40001" | "40P01") => Self::RolledBack,
                // The server shuts down, or is now a read-only replica.
                Some("57P01" | "57P02" | "57P03" | "57P05" | "25006") => Self::Broken,
                Some(code) if code.starts_with("08") => Self::Broken,
                _ => Self::Statement,
            },
            _ => Self::Statement,
        }
    }
}

/// The error that the store returns.
pub(super) fn store_error(error: &Error) -> StoreError {
    match error {
        Error::PoolTimedOut => StoreError::Unavailable("no connection became free or could be made in time".into()),
        Error::Decode(cause) => StoreError::Corrupt(cause.to_string()),
        Error::ColumnDecode { index, .. } => StoreError::Corrupt(format!("column {index}")),
        Error::ColumnNotFound(name) => StoreError::Corrupt(format!("column {name}")),
        Error::Database(cause) => match cause.code().as_deref() {
            // Cancelled by statement_timeout, or by lock_timeout.
            Some("57014" | "55P03") => StoreError::Timeout,
            // Invalid data, a violated constraint, or a table that is missing or not accessible.
            Some(code) if ["22", "23", "42"].iter().any(|class| code.starts_with(class)) => {
                StoreError::Corrupt(cause.message().to_owned())
            }
            _ => StoreError::Unavailable(cause.message().to_owned()),
        },
        other => StoreError::Unavailable(other.to_string()),
    }
}
