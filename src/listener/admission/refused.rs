//! Why a connection is refused.

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The cap in all is reached and no connection is idle.
    #[error("too many connections")]
    Max,
    /// The client has too many connections.
    #[error("too many connections of one client")]
    MaxPerClient,
    /// Too many connections have not sent a request head yet.
    #[error("too many connections without a request")]
    MaxPending,
}

impl Refused {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Max, Self::MaxPerClient, Self::MaxPending];

    /// The `reason` label of metrics: the setting whose value is reached.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::MaxPerClient => "max_per_client",
            Self::MaxPending => "max_pending",
        }
    }
}
