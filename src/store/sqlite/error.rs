//! Errors of the database.

use crate::store::error::StoreError;

/// Primary result codes of SQLite.
const SQLITE_ERROR: u32 = 1;
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_CONSTRAINT: u32 = 19;
const SQLITE_MISMATCH: u32 = 20;

/// The error that the store returns.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Timeout,
        sqlx::Error::Decode(cause) => StoreError::Corrupt(cause.to_string()),
        sqlx::Error::ColumnDecode { index, .. } => StoreError::Corrupt(format!("column {index}")),
        // The low byte of an extended code is the primary code.
        sqlx::Error::Database(cause) => {
            match cause.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
                Some(SQLITE_BUSY | SQLITE_LOCKED) => StoreError::Timeout,
                // A missing table, a violated constraint, or invalid data.
                Some(SQLITE_ERROR | SQLITE_CONSTRAINT | SQLITE_MISMATCH) => {
                    StoreError::Corrupt(cause.message().to_owned())
                }
                _ => StoreError::Unavailable(cause.message().to_owned()),
            }
        }
        other => StoreError::Unavailable(other.to_string()),
    }
}
