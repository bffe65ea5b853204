//! Refusals: one closed enum for every front. A new kind must be given its status and its label before it compiles.

use std::sync::Arc;
use std::time::Duration;

use crate::credential::TokenError;
use crate::store::StoreError;

/// Why a request may not pass. "Our fault" is a denial too, and never looks like the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// No route takes the request.
    RouteNotFound,
    /// The request is not one that can be judged; the text says why.
    RequestInvalid(&'static str),
    /// There is no credential where one is needed.
    CredentialMissing,
    /// There are two different ones.
    CredentialAmbiguous,
    /// There is something that cannot be a credential.
    CredentialMalformed,
    /// The credential is nobody's.
    Unknown(UnknownReason),
    /// The key is past its end.
    Expired,
    /// The key was revoked.
    Revoked,
    /// The credential is of a kind that is not served.
    FormatInvalid,
    /// The signature of a derived token does not hold, or its claims do not.
    SignatureInvalid,
    /// The key may not be used from there.
    AddressNotAllowed {
        /// Whether it is known where the caller is.
        known: bool,
    },
    /// The credential is meant for others.
    AudienceMismatch,
    /// The key is good but may not do this.
    ScopeInsufficient {
        /// All scopes that the route demands.
        required: Arc<[Box<str>]>,
    },
    /// The caller has asked too much.
    QuotaExceeded {
        /// The names of the limits that refuse.
        violated: Vec<Arc<str>>,
        /// How long until none of them would.
        retry_after: Duration,
    },
    /// Keygate cannot decide.
    Unavailable {
        /// What is missing.
        cause: Outage,
    },
    /// The upstream cannot be reached, or broke off.
    UpstreamUnreachable,
    /// The upstream took too long.
    UpstreamTimeout,
}

/// Why Keygate cannot decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The store cannot be reached.
    Connection,
    /// The store took too long.
    Timeout,
    /// The store is kept from a flood, and too many lookups wait for it.
    Busy,
    /// The store answers with what cannot be.
    Database,
    /// Requests cannot be counted.
    Limiter,
}

impl Outage {
    /// In words that tell nothing about the installation (contract, admin API section 3.4).
    pub fn message(self) -> &'static str {
        match self {
            Self::Connection => "database connection failed",
            Self::Timeout => "database operation timed out",
            Self::Busy => "too many lookups are waiting",
            Self::Database => "database error",
            Self::Limiter => "rate limiter unavailable",
        }
    }
}

/// In what way a credential is nobody's. Callers at the gateway are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownReason {
    /// No secret made its checksum.
    Checksum,
    /// The time inside it is too old or lies ahead.
    Timestamp,
    /// Keys with this prefix are not served.
    Prefix,
    /// There is no record.
    Absent,
    /// It is a token for another tenant.
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
    /// The denial for a store that could not answer.
    pub fn unavailable(error: &StoreError) -> Self {
        // A flood must not fill the log as well; it is counted.
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

    /// The stable name: `code` in problem bodies, the label in metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RouteNotFound => "route_not_found",
            Self::RequestInvalid(_) => "request_invalid",
            Self::CredentialMissing => "credential_missing",
            Self::CredentialAmbiguous => "credential_ambiguous",
            Self::CredentialMalformed => "credential_malformed",
            Self::Unknown(_) | Self::FormatInvalid | Self::SignatureInvalid => "credential_invalid",
            Self::Expired => "credential_expired",
            Self::Revoked => "credential_revoked",
            Self::AddressNotAllowed { .. } => "address_not_allowed",
            Self::AudienceMismatch => "audience_mismatch",
            Self::ScopeInsufficient { .. } => "scope_insufficient",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::Unavailable { .. } => "unavailable",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// The specific reason, for administrators (contract, credentials section 2).
    pub fn message(&self) -> &'static str {
        match self {
            Self::RouteNotFound => "no route takes this request",
            Self::RequestInvalid(why) => why,
            Self::CredentialMissing => "no credential",
            Self::CredentialAmbiguous => "two different credentials",
            Self::CredentialMalformed => "malformed credential",
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
            Self::ScopeInsufficient { .. } => "scopes lacking",
            Self::QuotaExceeded { .. } => "rate limit exceeded",
            Self::Unavailable { cause } => cause.message(),
            Self::UpstreamUnreachable => "the upstream cannot be reached",
            Self::UpstreamTimeout => "the upstream took too long",
        }
    }
}
