//! Key status. Stored: active or revoked; revocation is permanent. Effective: an active key past its expiry is expired.

use chrono::TimeDelta;

use crate::clock::Timestamp;

/// Time after revocation before clean-up may delete the row (contract, credentials section 10).
const REVOKED_RETENTION: TimeDelta = TimeDelta::days(30);

/// The stored status of a key. A key that a rotation replaced is active until its time to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Accepted until the key expires.
    Active,
    /// Permanently rejected.
    Revoked(Revocation),
}

/// The status of a key at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectiveStatus {
    /// Accepted.
    Active,
    /// Permanently rejected.
    Revoked,
    /// Past its expiry.
    Expired,
}

/// Details of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The reason.
    pub reason: RevocationReason,
    /// Explanation of the reason; only with [`RevocationReason::PrivilegeWithdrawn`].
    pub description: Option<String>,
}

/// Revocation reasons, modelled on RFC 5280. Informational: the reason does not affect enforcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevocationReason {
    /// No reason given.
    #[default]
    Unspecified,
    /// The secret was disclosed.
    KeyCompromise,
    /// The actor left the organization.
    AffiliationChanged,
    /// Another key replaces this one.
    Superseded,
    /// An administrator withdrew the permission.
    PrivilegeWithdrawn,
}

impl EffectiveStatus {
    /// Combines the two conditions. Revocation takes precedence over expiry.
    pub(super) fn of(revoked: bool, expired: bool) -> Self {
        match (revoked, expired) {
            (true, _) => Self::Revoked,
            (false, true) => Self::Expired,
            (false, false) => Self::Active,
        }
    }

    /// The wire name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "KEY_STATUS_ACTIVE",
            Self::Revoked => "KEY_STATUS_REVOKED",
            Self::Expired => "KEY_STATUS_EXPIRED",
        }
    }

    /// The status with a wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Revoked, Self::Expired].into_iter().find(|status| status.name() == name)
    }
}

impl RevocationReason {
    /// All reasons, ordered by wire number.
    pub const ALL: [Self; 5] =
        [Self::Unspecified, Self::KeyCompromise, Self::AffiliationChanged, Self::Superseded, Self::PrivilegeWithdrawn];

    /// The name on the wire, in the database and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "REVOCATION_REASON_UNSPECIFIED",
            Self::KeyCompromise => "REVOCATION_REASON_KEY_COMPROMISE",
            Self::AffiliationChanged => "REVOCATION_REASON_AFFILIATION_CHANGED",
            Self::Superseded => "REVOCATION_REASON_SUPERSEDED",
            Self::PrivilegeWithdrawn => "REVOCATION_REASON_PRIVILEGE_WITHDRAWN",
        }
    }

    /// The reason with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Revocation {
    /// The revocation of a key that a rotation replaced (contract, admin API section 5.4).
    pub fn superseded() -> Self {
        Self { reason: RevocationReason::Superseded, description: Some("rotated: replaced by new key".into()) }
    }

    /// The expiry of a key after its revocation at `now`; `before` is the expiry it had.
    pub fn expiry(now: Timestamp, before: Option<Timestamp>) -> Timestamp {
        let retained_until = now + REVOKED_RETENTION;
        before.map_or(retained_until, |expiry| expiry.max(retained_until))
    }
}
