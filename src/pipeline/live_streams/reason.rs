//! Why an exchange is ended from outside.

use crate::verifier::Denial;

/// Why an exchange is ended before its response is complete. The response was begun, so the client cannot get another status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The key was revoked, or the parent of the token.
    Revoked,
    /// The key or the token has expired.
    Expired,
    /// The credential is no longer accepted for another reason: its key was deleted, or was changed so that it may not be used for this
    /// request.
    Invalid,
    /// The upstream did not begin its response in time.
    FirstByteTimeout,
    /// The upstream sent nothing for too long within its response.
    ReadTimeout,
    /// The response was not complete in time.
    TotalTimeout,
    /// No side of a live stream sent anything for too long.
    StreamIdleTimeout,
    /// The server stops.
    ServerStopping,
}

impl EndReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Revoked,
        Self::Expired,
        Self::Invalid,
        Self::FirstByteTimeout,
        Self::ReadTimeout,
        Self::TotalTimeout,
        Self::StreamIdleTimeout,
        Self::ServerStopping,
    ];

    /// The stable name: the `denial` label of metrics and log lines, and the reason in close frames of WebSockets.
    pub fn code(self) -> &'static str {
        match self {
            Self::Revoked => "credential_revoked",
            Self::Expired => "credential_expired",
            Self::Invalid => "credential_invalid",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::StreamIdleTimeout => "stream_idle_timeout",
            Self::ServerStopping => "server_stopping",
        }
    }

    /// Whether the credential is no longer accepted.
    pub fn is_denial(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::Invalid)
    }
}

impl From<&Denial> for EndReason {
    fn from(denial: &Denial) -> Self {
        match denial {
            Denial::Revoked => Self::Revoked,
            Denial::Expired => Self::Expired,
            _ => Self::Invalid,
        }
    }
}
