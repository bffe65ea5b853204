//! The SQL on the table of keys.

use crate::key::{EffectiveStatus, KeyFilter};

pub(super) const FIND: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND key_id = ?";
/// The keys are given as one JSON text.
pub(super) const FIND_MANY: &str = "SELECT * FROM keys WHERE (tenant, kind, key_id) IN \
     (SELECT value->>0, value->>1, value->>2 FROM json_each(?))";
pub(super) const FIND_BY_REQUEST: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND request_id = ?";
/// Adds any number of rows, given as one JSON text; those whose id or request id is taken are skipped.
pub(super) const INSERT: &str = "INSERT INTO keys (tenant, kind, key_id, request_id, name, actor_id, scopes, metadata, status, \
     revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, revoke_time, replaced_by, \
     last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs, version) \
     SELECT value->>'tenant', value->>'kind', value->>'key_id', value->>'request_id', value->>'name', \
     value->>'actor_id', value->>'scopes', value->>'metadata', value->>'status', value->>'revocation_reason', \
     value->>'revocation_description', value->>'visibility', value->>'create_time', value->>'update_time', \
     value->>'expire_time', value->>'revoke_time', value->>'replaced_by', value->>'last_used_time', value->>'rate_limit_quota', value->>'rate_limit_window', \
     value->>'allowed_cidrs', value->>'version' FROM json_each(?) WHERE true ON CONFLICT DO NOTHING RETURNING key_id";
pub(super) const REPLACE: &str = "UPDATE keys SET name = ?, scopes = ?, metadata = ?, rate_limit_quota = ?, \
     rate_limit_window = ?, allowed_cidrs = ?, update_time = ?, version = ? \
     WHERE tenant = ? AND kind = ? AND key_id = ? AND version = ?";
pub(super) const REVOKE: &str = "UPDATE keys SET status = 'revoked', revocation_reason = ?1, revocation_description = ?2, \
     update_time = ?3, expire_time = max(?4, coalesce(expire_time, 0)), revoke_time = NULL, \
     replaced_by = coalesce(?5, replaced_by), version = version + 1 \
     WHERE tenant = ?6 AND kind = ?7 AND key_id = ?8 AND status = 'active' AND (revoke_time IS NULL OR revoke_time >= ?3) \
     RETURNING *";
/// Leaves a replaced key active until its time to be revoked.
pub(super) const REVOKE_LATER: &str = "UPDATE keys SET update_time = ?1, revoke_time = ?2, replaced_by = ?3, version = version + 1 \
     WHERE tenant = ?4 AND kind = ?5 AND key_id = ?6 AND status = 'active' AND (revoke_time IS NULL OR revoke_time >= ?1) \
     RETURNING *";
/// The keys are given as one JSON text.
pub(super) const RECORD_LAST_USED: &str = "UPDATE keys SET last_used_time = ?1 WHERE (tenant, kind, key_id) IN \
     (SELECT value->>0, value->>1, value->>2 FROM json_each(?3)) \
     AND (last_used_time IS NULL OR last_used_time < ?2)";
pub(super) const DELETE: &str = "DELETE FROM keys WHERE tenant = ? AND kind = ? AND key_id = ? RETURNING *";
pub(super) const INSERT_DELETED: &str =
    "INSERT OR REPLACE INTO deleted_keys (tenant, kind, key_id, delete_time) VALUES (?, ?, ?, ?)";
/// The keys to purge: those that expired first before ?1, at most ?2.
macro_rules! expired {
    () => {
        "(tenant, kind, key_id) IN (SELECT tenant, kind, key_id FROM keys WHERE expire_time < ?1 \
         ORDER BY expire_time, tenant, kind, key_id LIMIT ?2)"
    };
}

pub(super) const INSERT_PURGED: &str = concat!(
    "INSERT OR REPLACE INTO deleted_keys (tenant, kind, key_id, delete_time) \
     SELECT tenant, kind, key_id, update_time FROM keys WHERE status = 'revoked' AND ",
    expired!()
);
pub(super) const PURGE: &str = concat!("DELETE FROM keys WHERE ", expired!(), " RETURNING *");
pub(super) const PRUNE_DELETED: &str = "DELETE FROM deleted_keys WHERE (tenant, kind, key_id) IN \
     (SELECT tenant, kind, key_id FROM deleted_keys WHERE delete_time < ? ORDER BY delete_time LIMIT ?)";
pub(super) const REVOKED_SINCE: &str = "SELECT tenant, kind, key_id, update_time AS time, false AS is_later FROM keys \
     WHERE status = 'revoked' AND update_time >= ?1 \
     UNION ALL SELECT tenant, kind, key_id, revoke_time, true FROM keys WHERE revoke_time >= ?1 \
     UNION ALL SELECT tenant, kind, key_id, delete_time, false FROM deleted_keys WHERE delete_time >= ?1 \
     ORDER BY time DESC LIMIT ?2";
pub(super) const COUNT_ACTIVE: &str = "SELECT count(*) FROM keys WHERE tenant = ? AND status = 'active' \
     AND (revoke_time IS NULL OR revoke_time >= ?)";
pub(super) const PING: &str = "SELECT 1 FROM keys LIMIT 1";
/// The upper bound of the first page: greater than every id, whose characters are lower-case letters, digits and `-`.
pub(super) const ABOVE_ALL: &str = "~";

/// Lists keys, with one statement for each form of filter, so that each can use its index. Parameters: tenant, kind, upper
/// bound, limit, actor, now, prefixes of actors as a JSON array or NULL (1 to 7). The index is named, because without statistics the planner chooses the primary key and
/// reads every key that the filter excludes.
macro_rules! list {
    ($($index:ident,)? $($condition:literal)*) => {
        concat!(
            "SELECT * FROM keys" $(, " INDEXED BY ", stringify!($index))?, " WHERE tenant = ?1 AND kind = ?2 AND key_id < ?3",
            $(" AND ", $condition,)*
            " AND (?7 IS NULL OR EXISTS (SELECT 1 FROM json_each(?7) WHERE substr(actor_id, 1, length(value)) = value))",
            " ORDER BY key_id DESC LIMIT ?4"
        )
    };
}

/// Lists revoked keys: those with that status, and replaced ones whose time is over, which have an index of their own.
macro_rules! list_revoked {
    ($index:ident $(, $condition:literal)?) => {
        concat!(
            "SELECT * FROM (",
            list!($index, "status = 'revoked'" $($condition)?),
            ") UNION ALL SELECT * FROM (",
            list!(keys_replaced, "revoke_time < ?6" $($condition)?),
            ") ORDER BY key_id DESC LIMIT ?4"
        )
    };
}

const ALL: &str = list!();
const REVOKED: &str = list_revoked!(keys_by_status);
const ACTIVE: &str = list!(keys_by_status, "status = 'active'" "(expire_time IS NULL OR expire_time >= ?6)"
    "(revoke_time IS NULL OR revoke_time >= ?6)");
const EXPIRED: &str = list!(keys_by_status, "status = 'active'" "expire_time < ?6" "revoke_time IS NULL");
const OF_ACTOR: &str = list!(keys_by_actor, "actor_id = ?5");
const REVOKED_OF_ACTOR: &str = list_revoked!(keys_by_actor_status, "actor_id = ?5");
const ACTIVE_OF_ACTOR: &str = list!(keys_by_actor_status, "actor_id = ?5" "status = 'active'"
    "(expire_time IS NULL OR expire_time >= ?6)" "(revoke_time IS NULL OR revoke_time >= ?6)");
const EXPIRED_OF_ACTOR: &str =
    list!(keys_by_actor_status, "actor_id = ?5" "status = 'active'" "expire_time < ?6" "revoke_time IS NULL");

/// The statement that lists keys under a filter.
pub(super) fn list(filter: &KeyFilter) -> &'static str {
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

    /// The query plan of a statement, one step per line.
    async fn plan(store: &SqliteStore, statement: &str) -> String {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let rows = sqlx::query(explain)
            .bind("t")
            .bind("issued")
            .bind("~")
            .bind(50)
            .bind("actor")
            .bind(0_i64)
            .bind(None::<&str>)
            .fetch_all(&store.pool)
            .await
            .unwrap();
        rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn every_filter_uses_its_index_without_sorting() {
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
                let plan = plan(&store, list(&filter)).await;
                if state == Some(EffectiveStatus::Revoked) {
                    assert!(plan.contains(&format!("SEARCH keys USING {index}")), "{plan}");
                    assert!(
                        plan.contains("SEARCH keys USING INDEX keys_replaced (tenant=? AND kind=? AND key_id<?)"),
                        "{plan}"
                    );
                    assert!(!plan.contains("SCAN keys"), "{plan}");
                } else {
                    // The rest compares actors with the prefixes of the caller.
                    assert_eq!(plan.lines().next(), Some(&*format!("SEARCH keys USING {index}")), "{filter:?}");
                    assert!(!plan.contains("SCAN keys") && !plan.contains("ORDER BY"), "{plan}");
                }
            }
        }
    }
}
