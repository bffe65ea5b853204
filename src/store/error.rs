//! Errors of stores.

/// Why a store could not answer. The texts are for logs; callers show only whose fault it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or no connection is free.
    #[error("the key database cannot be reached: {0}; check db.dsn and that the database is up")]
    Unavailable(String),
    /// The database took too long.
    #[error("the key database did not answer in time")]
    Timeout,
    /// The lookup was rejected before it reached the database, because too many lookups are waiting.
    #[error("too many lookups of unknown credentials wait for the key database")]
    Busy,
    /// A row cannot be read, or the database rejected a statement.
    #[error("the key database returned unusable data: {0}; it may belong to another version of Keygate")]
    Corrupt(String),
    /// A write would have left the tenant of its [`RequestContext`]: a defect of the caller. Nothing was written.
    ///
    /// [`RequestContext`]: crate::request_context::RequestContext
    #[error("the write was refused: {0}")]
    WrongTenant(String),
}
