//! Counts of inactive keys.

use sqlx::query_as;

use super::pool::Access;
use super::search::{SCAN_MAX, bind, conditions, rows_by, rows_by_id};
use super::store::PostgresStore;
use crate::key::KeySearch;
use crate::store::error::StoreError;
use crate::store::inactive::{CountedBy, InactiveCount, InactiveQuery};
use crate::store::row::kind_text;

/// The maximum number of entries of one index that a count by status reads. The database looks up the row of an entry whose page was changed
/// since the last vacuum.
const ENTRIES_MAX: u32 = 10_000;
/// The maximum number of rows that a count by status looks up from one index, for conditions that the index does not have.
const LOOKUPS_MAX: u32 = 2000;

/// Counts rows that meet a condition, and returns whether they were all read: fewer than the limit.
macro_rules! count {
    ($condition:expr, $limit:literal, $rows:expr) => {
        concat!("SELECT count(*) FILTER (WHERE ", $condition, "), count(*) < ", $limit, " FROM (", $rows, ") AS rows")
    };
}

/// Counts keys of a range. Parameters: those of searches (1 to 7), the limit, the prefix of names that are left out, those of the conditions
/// (8 to 19), and the prefix of actors that are left out.
macro_rules! count_range {
    ($rows:expr) => {
        count!(
            concat!(
                "(status = 'revoked' OR revoke_time < $10 OR expire_time < $10) AND ",
                conditions!(),
                " AND ($9::text IS NULL OR NOT name ^@ $9) \
                 AND ($20::text IS NULL OR NOT actor_id ^@ $20)"
            ),
            "$8",
            $rows
        )
    };
}

/// Whether a revoked key is not counted with those that are expired, and expires before a time. Parameters: now, that time (3, 5).
macro_rules! is_not_expired {
    () => {
        "(expire_time IS NULL OR expire_time >= $3) AND ($5::timestamptz IS NULL OR expire_time < $5)"
    };
}

/// Counts inactive keys in three disjoint parts, each by the index that has it: past their expiry; revoked; replaced, with the time over.
/// The order and the range of one status keep the planner from an index of all tenants. Parameters: tenant, kind, now, the earlier one of now and of the time before which the keys expire, that time, the maximum number of
/// entries and of replaced keys (1 to 7), those of the other conditions.
macro_rules! count_by_status {
    ($columns:literal, $and:literal) => {
        concat!(
            count!(
                concat!("true", $and),
                "$6",
                concat!(
                    "SELECT ",
                    $columns,
                    " FROM keys WHERE tenant = $1 AND kind = $2 AND expire_time < $4 \
                     ORDER BY expire_time, key_id LIMIT $6"
                )
            ),
            " UNION ALL ",
            count!(
                concat!(is_not_expired!(), $and),
                "$6",
                concat!(
                    "SELECT ",
                    $columns,
                    " FROM keys WHERE tenant = $1 AND kind = $2 AND status >= 'revoked' AND status <= 'revoked' \
                     ORDER BY status, key_id LIMIT $6"
                )
            ),
            " UNION ALL ",
            count!(
                concat!("revoke_time < $3 AND ", is_not_expired!(), $and),
                "$7",
                concat!(
                    "SELECT revoke_time, ",
                    $columns,
                    " FROM keys \
                     WHERE tenant = $1 AND kind = $2 AND revoke_time IS NOT NULL \
                     ORDER BY key_id LIMIT $7"
                )
            )
        )
    };
}

const BY_STATUS: &str = count_by_status!("expire_time", "");
/// With conditions that need rows. Parameters 8 to 12: scope, last use, never used, prefixes of names and actors that are left out.
const BY_STATUS_AND_ROWS: &str = count_by_status!(
    "expire_time, scopes, create_time, last_used_time, name, actor_id",
    " AND ($8::text IS NULL OR scopes ? $8) \
     AND ($9::timestamptz IS NULL OR coalesce(last_used_time, create_time) < $9) AND (NOT $10 OR last_used_time IS NULL) \
     AND ($11::text IS NULL OR NOT name ^@ $11) AND ($12::text IS NULL OR NOT actor_id ^@ $12)"
);
const BY_KEY_ID: &str = count_range!(rows_by_id!());
const BY_NAME: &str = count_range!(rows_by!("name COLLATE \"C\"", "$4", "$6"));
const BY_ACTOR: &str = count_range!(rows_by!("actor_id COLLATE \"C\"", "$4", "$6"));

impl PostgresStore {
    pub(super) async fn count_inactive_keys(&self, query: &InactiveQuery<'_>) -> Result<InactiveCount, StoreError> {
        let conditions = query.conditions();
        let parts = match query.counted_by() {
            CountedBy::KeyId => self.count_range(BY_KEY_ID, query, &conditions).await,
            CountedBy::Name => self.count_range(BY_NAME, query, &conditions).await,
            CountedBy::Actor => self.count_range(BY_ACTOR, query, &conditions).await,
            CountedBy::Status { needs_rows } => self.count_by_status(query, needs_rows).await,
        };
        parts.map(InactiveCount::sum)
    }

    async fn count_range(
        &self,
        statement: &'static str,
        query: &InactiveQuery<'_>,
        conditions: &KeySearch,
    ) -> Result<Vec<(i64, bool)>, StoreError> {
        let keys = query.keys(conditions);
        let statement =
            || bind(query_as(statement), &keys, SCAN_MAX, query.not_name_prefix).bind(query.not_actor_prefix);
        self.connections.rows(Access::Read, statement).await
    }

    async fn count_by_status(
        &self,
        query: &InactiveQuery<'_>,
        needs_rows: bool,
    ) -> Result<Vec<(i64, bool)>, StoreError> {
        let search = query.search;
        let (statement, entries_max, replaced_max) = if needs_rows {
            (BY_STATUS_AND_ROWS, LOOKUPS_MAX, LOOKUPS_MAX)
        } else {
            (BY_STATUS, ENTRIES_MAX, SCAN_MAX)
        };
        let statement = || {
            let statement = query_as(statement)
                .bind(query.tenant.0)
                .bind(kind_text(query.kind))
                .bind(query.now)
                .bind(search.expiring_before.map_or(query.now, |before| before.min(query.now)))
                .bind(search.expiring_before)
                .bind(i64::from(entries_max))
                .bind(i64::from(replaced_max));
            if !needs_rows {
                return statement;
            }
            statement
                .bind(&search.scope)
                .bind(search.unused_since)
                .bind(search.never_used)
                .bind(query.not_name_prefix)
                .bind(query.not_actor_prefix)
        };
        self.connections.rows(Access::Read, statement).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Migration, testing};

    #[tokio::test]
    async fn counts_by_status_read_ranges_of_indexes_of_the_tenant() {
        let server = testing::Postgres::start();
        PostgresStore::open(&testing::options(&server, "postgres"), Migration::Automatic).await.unwrap();
        let values = [
            "'00000000-0000-0000-0000-000000000000'::uuid",
            "'issued'",
            "now()",
            "now()",
            "NULL",
            "100",
            "100",
            "'scope'",
            "NULL",
            "false",
            "NULL",
            "NULL",
        ];
        for (statement, scan) in [(BY_STATUS, "Index Only Scan"), (BY_STATUS_AND_ROWS, "Index Scan")] {
            let numbered = values.iter().enumerate().rev();
            let statement = numbered
                .fold(statement.to_owned(), |text, (index, value)| text.replace(&format!("${}", index + 1), value));
            // The tables are empty, so other plans would be as cheap.
            let settings = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off";
            let plan = server.query(&format!("{settings}; EXPLAIN {statement}")).unwrap();
            for index in ["keys_by_expiry", "keys_by_status"] {
                assert!(plan.contains(&format!("{scan} using {index} on")), "{index}: {plan}");
            }
            assert!(plan.contains("using keys_replaced on"), "{plan}");
            assert!(!plan.contains("Seq Scan") && !plan.contains("Sort  ("), "{plan}");
        }
    }
}
