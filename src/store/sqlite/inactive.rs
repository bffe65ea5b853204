//! Counts of inactive keys.

use super::error::store_error;
use super::search::{LOOKUPS_MAX, SCAN_MAX, bind, conditions, range_by_id, rows_by};
use super::store::SqliteStore;
use crate::key::KeySearch;
use crate::store::error::StoreError;
use crate::store::inactive::{CountedBy, InactiveCount, InactiveQuery};
use crate::store::row::kind_text;

/// The maximum number of entries of one index that a count by status reads: about 13 ms.
const ENTRIES_MAX: u32 = 100_000;

/// Counts rows that meet a condition, and returns whether they were all read: fewer than the limit.
macro_rules! count {
    ($condition:expr, $limit:literal, $rows:expr) => {
        concat!("SELECT count(*) FILTER (WHERE ", $condition, "), count(*) < ", $limit, " FROM (", $rows, ")")
    };
}

/// Counts keys of a range. Parameters: those of searches (1 to 7), the limit, the prefix of names that are left out, those of the conditions
/// (8 to 19), and the prefix of actors that are left out.
macro_rules! count_range {
    ($rows:expr) => {
        count!(
            concat!(
                "(status = 'revoked' OR revoke_time < ?10 OR expire_time < ?10) AND ",
                conditions!(),
                " AND (?9 IS NULL OR substr(name, 1, length(?9)) <> ?9) \
                 AND (?20 IS NULL OR substr(actor_id, 1, length(?20)) <> ?20)"
            ),
            "?8",
            $rows
        )
    };
}

/// Whether a revoked key is not counted with those that are expired, and expires before a time. Parameters: now, that time (3, 5).
macro_rules! is_not_expired {
    () => {
        "(expire_time IS NULL OR expire_time >= ?3) AND (?5 IS NULL OR expire_time < ?5)"
    };
}

/// Counts inactive keys in three disjoint parts, each by the index that has it: past their expiry; revoked; replaced, with the time over.
/// Parameters: tenant, kind, now, the earlier one of now and of the time before which the keys expire, that time, the maximum number of
/// entries and of replaced keys (1 to 7), those of the other conditions.
macro_rules! count_by_status {
    ($columns:literal, $and:literal) => {
        concat!(
            count!(
                concat!("true", $and),
                "?6",
                concat!(
                    "SELECT ",
                    $columns,
                    " FROM keys INDEXED BY keys_by_expiry WHERE tenant = ?1 AND kind = ?2 AND expire_time < ?4 LIMIT ?6"
                )
            ),
            " UNION ALL ",
            count!(
                concat!(is_not_expired!(), $and),
                "?6",
                concat!(
                    "SELECT ",
                    $columns,
                    " FROM keys INDEXED BY keys_by_status WHERE tenant = ?1 AND kind = ?2 AND status = 'revoked' LIMIT ?6"
                )
            ),
            " UNION ALL ",
            count!(
                concat!("revoke_time < ?3 AND ", is_not_expired!(), $and),
                "?7",
                concat!(
                    "SELECT revoke_time, ",
                    $columns,
                    " FROM keys INDEXED BY keys_replaced \
                     WHERE tenant = ?1 AND kind = ?2 AND revoke_time IS NOT NULL LIMIT ?7"
                )
            )
        )
    };
}

const BY_STATUS: &str = count_by_status!("expire_time", "");
/// With conditions that need rows. Parameters 8 to 12: scope, last use, never used, prefixes of names and actors that are left out.
const BY_STATUS_AND_ROWS: &str = count_by_status!(
    "expire_time, scopes, last_use, last_used_time, name, actor_id",
    " AND (?8 IS NULL OR EXISTS (SELECT 1 FROM json_each(scopes) WHERE value = ?8)) AND (?9 IS NULL OR last_use < ?9) \
     AND (NOT ?10 OR last_used_time IS NULL) AND (?11 IS NULL OR substr(name, 1, length(?11)) <> ?11) \
     AND (?12 IS NULL OR substr(actor_id, 1, length(?12)) <> ?12)"
);
const BY_KEY_ID: &str = count_range!(concat!(range_by_id!(), " ORDER BY key_id LIMIT ?8"));
const BY_NAME: &str = count_range!(rows_by!(keys_by_name, "name", "?4", "?6"));
const BY_ACTOR: &str = count_range!(rows_by!(keys_by_actor, "actor_id", "?4", "?6"));

impl SqliteStore {
    pub(super) async fn count_inactive_keys(&self, query: &InactiveQuery<'_>) -> Result<InactiveCount, StoreError> {
        let conditions = query.conditions();
        let parts = match query.counted_by() {
            CountedBy::KeyId => self.count_range(BY_KEY_ID, SCAN_MAX, query, &conditions).await,
            CountedBy::Name => self.count_range(BY_NAME, LOOKUPS_MAX, query, &conditions).await,
            CountedBy::Actor => self.count_range(BY_ACTOR, LOOKUPS_MAX, query, &conditions).await,
            CountedBy::Status { needs_rows } => self.count_by_status(query, needs_rows).await,
        };
        parts.map(InactiveCount::sum).map_err(store_error)
    }

    async fn count_range(
        &self,
        statement: &'static str,
        rows_max: u32,
        query: &InactiveQuery<'_>,
        conditions: &KeySearch,
    ) -> sqlx::Result<Vec<(i64, bool)>> {
        let keys = query.keys(conditions);
        let statement = bind(sqlx::query_as(statement), &keys, rows_max, query.not_name_prefix);
        statement.bind(query.not_actor_prefix).fetch_all(&self.pool).await
    }

    async fn count_by_status(&self, query: &InactiveQuery<'_>, needs_rows: bool) -> sqlx::Result<Vec<(i64, bool)>> {
        let (search, now) = (query.search, query.now.timestamp_micros());
        let expiring_before = search.expiring_before.map(|time| time.timestamp_micros());
        let (statement, entries_max) =
            if needs_rows { (BY_STATUS_AND_ROWS, LOOKUPS_MAX) } else { (BY_STATUS, ENTRIES_MAX) };
        let statement = sqlx::query_as(statement)
            .bind(query.tenant.to_string())
            .bind(kind_text(query.kind))
            .bind(now)
            .bind(expiring_before.map_or(now, |before| before.min(now)))
            .bind(expiring_before)
            .bind(entries_max)
            .bind(LOOKUPS_MAX);
        let statement = if needs_rows {
            statement
                .bind(&search.scope)
                .bind(search.unused_since.map(|time| time.timestamp_micros()))
                .bind(search.never_used)
                .bind(query.not_name_prefix)
                .bind(query.not_actor_prefix)
        } else {
            statement
        };
        statement.fetch_all(&self.pool).await
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::store::SqliteOptions;

    #[tokio::test]
    async fn counts_read_ranges_of_indexes_and_rows_only_for_conditions_that_need_them() {
        let store = SqliteStore::open(&SqliteOptions { path: None, max_connections: 1 }).await.unwrap();
        let by_expiry = "INDEX keys_by_expiry (tenant=? AND kind=? AND expire_time<?)";
        let by_status = "INDEX keys_by_status (tenant=? AND kind=? AND status=?)";
        let replaced = "USING INDEX keys_replaced (tenant=? AND kind=?)";
        for (statement, steps) in [
            (BY_STATUS, &[&*format!("COVERING {by_expiry}"), &*format!("COVERING {by_status}"), replaced][..]),
            (BY_STATUS_AND_ROWS, &[by_expiry, by_status, replaced]),
            (BY_KEY_ID, &["PRIMARY KEY (tenant=? AND kind=? AND key_id>? AND key_id<?)"]),
            (BY_NAME, &["INDEX keys_by_name (tenant=? AND kind=? AND (name,key_id)>(?,?) AND name<?)"]),
            (BY_ACTOR, &["INDEX keys_by_actor (tenant=? AND kind=? AND (actor_id,key_id)>(?,?) AND actor_id<?)"]),
        ] {
            let explain = format!("EXPLAIN QUERY PLAN {statement}");
            let rows = sqlx::query(sqlx::AssertSqlSafe(explain)).fetch_all(&store.pool).await.unwrap();
            let plan = rows.iter().map(|row| row.get("detail")).collect::<Vec<String>>().join("\n");
            for step in steps {
                assert!(plan.contains(step), "{step}: {plan}");
            }
            assert!(!plan.contains("SCAN keys") && !plan.contains("ORDER BY"), "{plan}");
        }
    }
}
