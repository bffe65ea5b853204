//! The SQL on the table of keys.

use crate::key::{EffectiveStatus, KeyFilter};

pub(super) const FIND: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND key_id = ?";
/// The keys are given as one JSON text.
pub(super) const FIND_MANY: &str = "SELECT * FROM keys WHERE (tenant, kind, key_id) IN \
     (SELECT value->>0, value->>1, value->>2 FROM json_each(?))";
pub(super) const FIND_BY_REQUEST: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND request_id = ?";
/// Adds rows, given as one JSON text.
macro_rules! insert {
    ($json:literal, $rest:literal) => {
        concat!(
            "INSERT INTO keys (tenant, kind, key_id, request_id, name, actor_id, scopes, metadata, status, \
             revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, revoke_time, \
             replaced_by, last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs, version) \
             SELECT value->>'tenant', value->>'kind', value->>'key_id', value->>'request_id', value->>'name', \
             value->>'actor_id', value->>'scopes', value->>'metadata', value->>'status', value->>'revocation_reason', \
             value->>'revocation_description', value->>'visibility', value->>'create_time', value->>'update_time', \
             value->>'expire_time', value->>'revoke_time', value->>'replaced_by', value->>'last_used_time', \
             value->>'rate_limit_quota', value->>'rate_limit_window', value->>'allowed_cidrs', value->>'version' \
             FROM json_each(",
            $json,
            ") WHERE ",
            $rest
        )
    };
}

/// Adds rows to the audit trail, given as one JSON text, under a condition.
macro_rules! insert_audit {
    ($json:literal, $condition:literal) => {
        concat!(
            "INSERT INTO audit_events (id, tenant, time, writer, event, principal, roles, client_ip, request_id, key_id, \
             actor_id, before, after, details, mac) SELECT value->>'id', value->>'tenant', value->>'time', \
             value->>'writer', value->>'event', value->>'principal', value->>'roles', value->>'client_ip', value->>'request_id', \
             value->>'key_id', value->>'actor_id', value->>'before', value->>'after', value->>'details', value->>'mac' \
             FROM json_each(",
            $json,
            ") WHERE ",
            $condition
        )
    };
}

/// A statement that changes one row at most, and the rows of the audit trail if it has changed one. Both are one call of the
/// connection: each call passes through the thread of the connection. All rows of the result must be fetched: after the first one,
/// the audit row is not written yet. Parameters begin with `$`: SQLite counts `?2` as two parameters in a statement without `?1`.
macro_rules! audited {
    ($statement:expr, $json:literal) => {
        concat!($statement, "; ", insert_audit!($json, "changes() = 1"))
    };
}

/// Revokes an active key. Parameters: reason, description, time, earliest expiry, new id or NULL, tenant, kind, id (1 to 8).
macro_rules! revoke {
    ($and:literal) => {
        concat!(
            "UPDATE keys SET status = 'revoked', revocation_reason = $1, revocation_description = $2, update_time = $3, \
             expire_time = max($4, coalesce(expire_time, 0)), revoke_time = NULL, \
             replaced_by = coalesce($5, replaced_by), version = version + 1 \
             WHERE tenant = $6 AND kind = $7 AND key_id = $8 AND status = 'active' \
             AND (revoke_time IS NULL OR revoke_time >= $3)",
            $and,
            " RETURNING *"
        )
    };
}

/// Adds the rows that conflict with no other row. Returns their ids.
pub(super) const INSERT_MANY: &str = insert!("$1", "true ON CONFLICT DO NOTHING RETURNING key_id");
/// Adds a row, if it conflicts with no other one, with its audit row. Returns its id.
pub(super) const INSERT: &str = audited!(insert!("$1", "true ON CONFLICT DO NOTHING RETURNING key_id"), "$2");
pub(super) const INSERT_AUDIT: &str = insert_audit!("$1", "true");
/// Parameters: columns (1 to 8), tenant, kind, id, version before, audit row (9 to 13).
pub(super) const REPLACE: &str = audited!(
    "UPDATE keys SET name = $1, scopes = $2, metadata = $3, rate_limit_quota = $4, rate_limit_window = $5, \
     allowed_cidrs = $6, update_time = $7, version = $8 \
     WHERE tenant = $9 AND kind = $10 AND key_id = $11 AND version = $12",
    "$13"
);
/// Parameters: those of `revoke!`, audit row (9).
pub(super) const REVOKE: &str = audited!(revoke!(""), "$9");
/// Replaces a key by another one, whose row is added if the key was active. Parameters: those of `revoke!`, version before, new
/// row, audit rows (9 to 11).
pub(super) const ROTATE: &str =
    audited!(concat!(revoke!(" AND version = $9"), "; ", insert!("$10", "changes() = 1")), "$11");
/// The same, but leaves the replaced key active until its time to be revoked. Parameters: time, time to revoke, new id, tenant,
/// kind, id, version before, new row, audit rows (1 to 9).
pub(super) const ROTATE_LATER: &str = audited!(
    concat!(
        "UPDATE keys SET update_time = $1, revoke_time = $2, replaced_by = $3, version = version + 1 \
         WHERE tenant = $4 AND kind = $5 AND key_id = $6 AND version = $7 AND status = 'active' \
         AND (revoke_time IS NULL OR revoke_time >= $1) RETURNING *; ",
        insert!("$8", "changes() = 1")
    ),
    "$9"
);
/// The keys are given as one JSON text.
pub(super) const RECORD_LAST_USED: &str = "UPDATE keys SET last_used_time = ?1 WHERE (tenant, kind, key_id) IN \
     (SELECT value->>0, value->>1, value->>2 FROM json_each(?3)) \
     AND (last_used_time IS NULL OR last_used_time < ?2)";
pub(super) const DELETE: &str = "DELETE FROM keys WHERE tenant = ? AND kind = ? AND key_id = ? RETURNING *";
/// Keeps the deletion. Parameters: tenant, kind, id, time, audit row (1 to 5).
pub(super) const INSERT_DELETED: &str =
    audited!("INSERT OR REPLACE INTO deleted_keys (tenant, kind, key_id, delete_time) VALUES ($1, $2, $3, $4)", "$5");
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
