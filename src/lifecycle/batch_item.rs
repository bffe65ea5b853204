//! Results of the items of a batch import.

use crate::key::ApiKey;

/// The result of an item: its key, or why it was rejected.
pub type BatchItem = Result<ApiKey, ItemError>;

/// Why an item was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// The kind of reason.
    pub code: BatchCode,
    /// The message.
    pub message: String,
}

/// Kinds of reasons, by descending priority in a tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchCode {
    /// An unexpected failure.
    Internal,
    /// The key is stored already, or occurs twice in the batch.
    AlreadyExists,
    /// A field breaks its limit.
    InvalidArgument,
    /// The text looks like another kind of credential.
    FailedPrecondition,
    /// The quota is used up.
    ResourceExhausted,
}

impl BatchCode {
    /// All codes, by descending priority in a tie.
    pub const ALL: [Self; 5] =
        [Self::Internal, Self::AlreadyExists, Self::InvalidArgument, Self::FailedPrecondition, Self::ResourceExhausted];

    /// The name in metric labels and, after a prefix, on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "INTERNAL",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
        }
    }
}
