//! The statements that list keys: one for each form of filter, so that each has its index.

use super::keys::columns;
use crate::key::{EffectiveStatus, KeyFilter};

/// A statement on tenant, kind, upper bound and limit (1 to 4), owner (5) and now (6).
macro_rules! list {
    ($($condition:literal)*) => {
        concat!(
            "SELECT ", columns!(), " FROM keys WHERE tenant = $1 AND kind = $2 AND key_id < $3",
            $(" AND ", $condition,)*
            " ORDER BY key_id DESC LIMIT $4"
        )
    };
}

const ALL: &str = list!();
const REVOKED: &str = list!("status = 'revoked'");
const ACTIVE: &str = list!("status = 'active'" "(expire_time IS NULL OR expire_time >= $6)");
const EXPIRED: &str = list!("status = 'active'" "expire_time < $6");
const OF_ACTOR: &str = list!("actor_id = $5");
const REVOKED_OF_ACTOR: &str = list!("actor_id = $5" "status = 'revoked'");
const ACTIVE_OF_ACTOR: &str = list!("actor_id = $5" "status = 'active'" "(expire_time IS NULL OR expire_time >= $6)");
const EXPIRED_OF_ACTOR: &str = list!("actor_id = $5" "status = 'active'" "expire_time < $6");

/// The statement for a filter.
pub(super) fn statement(filter: &KeyFilter) -> &'static str {
    match (&filter.actor_id, filter.state) {
        (None, None) => ALL,
        (None, Some(EffectiveStatus::Revoked)) => REVOKED,
        (None, Some(EffectiveStatus::Active)) => ACTIVE,
        (None, Some(EffectiveStatus::Expired)) => EXPIRED,
        (Some(_), None) => OF_ACTOR,
        (Some(_), Some(EffectiveStatus::Revoked)) => REVOKED_OF_ACTOR,
        (Some(_), Some(EffectiveStatus::Active)) => ACTIVE_OF_ACTOR,
        (Some(_), Some(EffectiveStatus::Expired)) => EXPIRED_OF_ACTOR,
    }
}
