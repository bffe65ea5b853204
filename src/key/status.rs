//! The life of a key: active until it is revoked, for good; expired is what an active key reads as after its end.

use chrono::TimeDelta;

use crate::clock::Timestamp;

/// How long a revoked key's row is kept from clean-up (contract, credentials section 10).
const REVOKED_RETENTION: TimeDelta = TimeDelta::days(30);

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Usable until its expiry.
    Active,
    /// Refused for ever.
    Revoked(Revocation),
}

/// What holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectiveStatus {
    /// Usable.
    Active,
    /// Refused for ever.
    Revoked,
    /// Past its end.
    Expired,
}

/// Why and how a key was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The kind of reason.
    pub reason: RevocationReason,
    /// The reason in words, only with [`RevocationReason::PrivilegeWithdrawn`].
    pub description: Option<String>,
}

/// Reasons in the manner of RFC 5280; they change nothing in what is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevocationReason {
    /// None given.
    #[default]
    Unspecified,
    /// The secret has leaked.
    KeyCompromise,
    /// The owner has gone elsewhere.
    AffiliationChanged,
    /// Another key took its place.
    Superseded,
    /// An administrator withdrew it.
    PrivilegeWithdrawn,
}

impl EffectiveStatus {
    /// A revocation outlives the expiry.
    pub(super) fn of(revoked: bool, expired: bool) -> Self {
        match (revoked, expired) {
            (true, _) => Self::Revoked,
            (false, true) => Self::Expired,
            (false, false) => Self::Active,
        }
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "KEY_STATUS_ACTIVE",
            Self::Revoked => "KEY_STATUS_REVOKED",
            Self::Expired => "KEY_STATUS_EXPIRED",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Revoked, Self::Expired].into_iter().find(|state| state.name() == name)
    }
}

impl RevocationReason {
    /// All reasons, in the order of their numbers on the wire.
    pub const ALL: [Self; 5] =
        [Self::Unspecified, Self::KeyCompromise, Self::AffiliationChanged, Self::Superseded, Self::PrivilegeWithdrawn];

    /// The name on the wire, in storage and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "REVOCATION_REASON_UNSPECIFIED",
            Self::KeyCompromise => "REVOCATION_REASON_KEY_COMPROMISE",
            Self::AffiliationChanged => "REVOCATION_REASON_AFFILIATION_CHANGED",
            Self::Superseded => "REVOCATION_REASON_SUPERSEDED",
            Self::PrivilegeWithdrawn => "REVOCATION_REASON_PRIVILEGE_WITHDRAWN",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Revocation {
    /// The expiry a key has after being revoked at `now`.
    pub fn expiry(now: Timestamp, before: Option<Timestamp>) -> Timestamp {
        let kept_until = now + REVOKED_RETENTION;
        before.map_or(kept_until, |expiry| expiry.max(kept_until))
    }
}
