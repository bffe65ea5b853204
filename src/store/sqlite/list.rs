//! The statements that list keys: one for each form of filter, so that each has its index.

use crate::key::{EffectiveStatus, KeyFilter};

/// A statement on tenant, kind, upper bound and limit (1 to 4), owner (5) and now (6). The index is named, because without
/// statistics the planner takes the primary key and reads every key that the filter leaves out.
macro_rules! list {
    ($($index:ident,)? $($condition:literal)*) => {
        concat!(
            "SELECT * FROM keys" $(, " INDEXED BY ", stringify!($index))?, " WHERE tenant = ?1 AND kind = ?2 AND key_id < ?3",
            $(" AND ", $condition,)*
            " ORDER BY key_id DESC LIMIT ?4"
        )
    };
}

const ALL: &str = list!();
const REVOKED: &str = list!(keys_by_status, "status = 'revoked'");
const ACTIVE: &str = list!(keys_by_status, "status = 'active'" "(expire_time IS NULL OR expire_time >= ?6)");
const EXPIRED: &str = list!(keys_by_status, "status = 'active'" "expire_time < ?6");
const OF_ACTOR: &str = list!(keys_by_actor, "actor_id = ?5");
const REVOKED_OF_ACTOR: &str = list!(keys_by_actor_status, "actor_id = ?5" "status = 'revoked'");
const ACTIVE_OF_ACTOR: &str =
    list!(keys_by_actor_status, "actor_id = ?5" "status = 'active'" "(expire_time IS NULL OR expire_time >= ?6)");
const EXPIRED_OF_ACTOR: &str = list!(keys_by_actor_status, "actor_id = ?5" "status = 'active'" "expire_time < ?6");

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

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::store::{SqliteOptions, SqliteStore};

    /// How the database goes about a statement, one step a line.
    async fn plan(store: &SqliteStore, statement: &str) -> String {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let rows = sqlx::query(explain)
            .bind("t")
            .bind("issued")
            .bind("~")
            .bind(50)
            .bind("actor")
            .bind(0_i64)
            .fetch_all(&store.pool)
            .await
            .unwrap();
        rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn every_filter_has_its_index_and_nothing_is_sorted() {
        let store = SqliteStore::open(&SqliteOptions { path: None, max_connections: 1 }).await.unwrap();
        for (actor, states, index) in [
            (None, vec![None], "PRIMARY KEY (tenant=? AND kind=? AND key_id<?)"),
            (
                None,
                vec![Some(EffectiveStatus::Active), Some(EffectiveStatus::Expired), Some(EffectiveStatus::Revoked)],
                "INDEX keys_by_status (tenant=? AND kind=? AND status=? AND key_id<?)",
            ),
            (Some("a"), vec![None], "INDEX keys_by_actor (tenant=? AND kind=? AND actor_id=? AND key_id<?)"),
            (
                Some("a"),
                vec![Some(EffectiveStatus::Active), Some(EffectiveStatus::Expired), Some(EffectiveStatus::Revoked)],
                "INDEX keys_by_actor_status (tenant=? AND kind=? AND actor_id=? AND status=? AND key_id<?)",
            ),
        ] {
            for state in states {
                let filter = KeyFilter { actor_id: actor.map(str::to_owned), state };
                let plan = plan(&store, statement(&filter)).await;
                assert_eq!(plan, format!("SEARCH keys USING {index}"), "{filter:?}");
            }
        }
    }
}
