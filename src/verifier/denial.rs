//! Why the verifier denies a credential: one closed enum. A new variant must be mapped to HTTP and to a metric label before it
//! compiles.

use crate::credential::TokenError;
use crate::store::StoreError;

/// Why a credential is not accepted. An outage of Keygate's own dependencies is a denial too, but never looks like the caller's
/// fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The credential is not known.
    Unknown(UnknownReason),
    /// The key has expired.
    Expired,
    /// The key was revoked.
    Revoked,
    /// This kind of credential is not supported.
    FormatInvalid,
    /// The signature of a derived token, or one of its claims, is invalid.
    SignatureInvalid,
    /// The key may not be used from the client's address.
    AddressNotAllowed {
        /// Whether the client's address is known.
        known: bool,
    },
    /// The credential does not name a required audience.
    AudienceMismatch,
    /// Keygate cannot decide.
    Unavailable {
        /// What is unavailable.
        cause: Outage,
    },
}

/// Why Keygate cannot decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The store cannot be reached.
    Connection,
    /// The store did not answer in time.
    Timeout,
    /// The queue of throttled lookups is full.
    Busy,
    /// The store returned invalid data.
    Database,
}

impl Outage {
    /// A text that reveals nothing about the installation (contract, admin API section 3.4).
    pub fn message(self) -> &'static str {
        match self {
            Self::Connection => "database connection failed",
            Self::Timeout => "database operation timed out",
            Self::Busy => "too many lookups are waiting",
            Self::Database => "database error",
        }
    }
}

/// Why a credential is not known. Clients of the gateway do not learn the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownReason {
    /// The checksum matches no secret of this installation.
    Checksum,
    /// The time inside the key is too old, or in the future.
    Timestamp,
    /// The prefix is not configured.
    Prefix,
    /// There is no record.
    Absent,
    /// The token was issued for another tenant.
    ForeignTenant,
}

impl From<TokenError> for Denial {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Signature => Self::SignatureInvalid,
            TokenError::Format => Self::FormatInvalid,
            TokenError::ForeignTenant => Self::Unknown(UnknownReason::ForeignTenant),
        }
    }
}

impl Denial {
    /// The denial for a store error, which is logged here.
    pub fn unavailable(error: &StoreError) -> Self {
        // A flood of unknown credentials must not flood the log as well; it is counted.
        if !matches!(error, StoreError::Busy) {
            tracing::error!(%error, "a key could not be looked up");
        }
        let cause = match error {
            StoreError::Busy => Outage::Busy,
            StoreError::Unavailable(_) => Outage::Connection,
            StoreError::Timeout => Outage::Timeout,
            StoreError::Corrupt(_) | StoreError::WrongTenant(_) => Outage::Database,
        };
        Self::Unavailable { cause }
    }

    /// The stable name: `code` in problem bodies, the label of metrics and log lines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) | Self::FormatInvalid | Self::SignatureInvalid => "credential_invalid",
            Self::Expired => "credential_expired",
            Self::Revoked => "credential_revoked",
            Self::AddressNotAllowed { .. } => "address_not_allowed",
            Self::AudienceMismatch => "audience_mismatch",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Whether the credential is that of a key which exists or existed: its text was verified, and its record judged.
    pub(super) fn is_of_key(&self) -> bool {
        match self {
            Self::Expired | Self::Revoked | Self::AddressNotAllowed { .. } | Self::AudienceMismatch => true,
            Self::Unknown(_) | Self::FormatInvalid | Self::SignatureInvalid | Self::Unavailable { .. } => false,
        }
    }

    /// The specific reason, for administrators (contract, credentials section 2).
    pub fn message(&self) -> &'static str {
        match self {
            Self::Unknown(UnknownReason::Checksum) => "invalid API key checksum",
            Self::Unknown(UnknownReason::Timestamp) => "timestamp out of range",
            Self::Unknown(UnknownReason::Prefix) => "prefix not allowed",
            Self::Unknown(UnknownReason::Absent) => "API key not found",
            Self::Unknown(UnknownReason::ForeignTenant) => "token not valid for this network",
            Self::Expired => "The API key has expired.",
            Self::Revoked => "The API key has been revoked.",
            Self::FormatInvalid => "The API key format is invalid.",
            Self::SignatureInvalid => "Signature verification failed.",
            Self::AddressNotAllowed { known: true } => "The request IP is not allowed for this API key.",
            Self::AddressNotAllowed { known: false } => "unable to determine client IP",
            Self::AudienceMismatch => "credential audience mismatch",
            Self::Unavailable { cause } => cause.message(),
        }
    }
}
