//! Searches of keys.

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{Encode, Postgres, Type, query_as};

use super::pool::Access;
use super::statements::columns;
use super::store::PostgresStore;
use crate::clock::Timestamp;
use crate::key::SearchOrder;
use crate::store::error::StoreError;
use crate::store::row::kind_text;
use crate::store::search::{FoundKeys, ScannedKey, SearchQuery};
use crate::store::search_range::{SearchRange, status_text};
use crate::store::search_row::SearchRow;

/// The maximum number of rows that one search reads, so that conditions which few keys meet do not read the whole table.
pub(super) const SCAN_MAX: u32 = 5000;

/// The rest of the conditions on a row, whatever the order. Parameters 10 to 19: now, prefixes of name, actor and id, scope, status, expiry,
/// last use, never used, prefixes of the actors of the caller.
macro_rules! conditions {
    () => {
        "($11::text IS NULL OR name ^@ $11) AND ($12::text IS NULL OR actor_id ^@ $12) \
         AND ($13::text IS NULL OR key_id ^@ $13) AND ($14::text IS NULL OR scopes ? $14) \
         AND ($15::text IS NULL OR $15 = CASE WHEN status = 'revoked' OR revoke_time < $10 THEN 'revoked' \
         WHEN expire_time < $10 THEN 'expired' ELSE 'active' END) \
         AND ($16::timestamptz IS NULL OR expire_time < $16) \
         AND ($17::timestamptz IS NULL OR coalesce(last_used_time, create_time) < $17) \
         AND (NOT $18 OR last_used_time IS NULL) AND ($19::text[] IS NULL OR actor_id ^@ ANY ($19))"
    };
}
pub(super) use conditions;

/// Reads at most $8 rows of an order, numbers them, and returns the first $9 of those that meet the conditions. The last of the $8 rows is
/// returned too, because the next search starts after it. The inner limit also keeps the planner from another index than that of the order.
macro_rules! search {
    ($rows:expr, $order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", is_match, number FROM (SELECT *, coalesce(",
            conditions!(),
            ", false) AS is_match, row_number() OVER (ORDER BY ",
            $order,
            ") AS number FROM (",
            $rows,
            ") AS scanned) AS numbered WHERE is_match OR number = $8 ORDER BY ",
            $order,
            " LIMIT $9"
        )
    };
}

/// The rows of an order by id. Parameters: tenant, kind, first id, first id of the rows that follow (1, 2, 4, 6).
macro_rules! rows_by_id {
    ($($condition:literal)?) => {
        concat!(
            "SELECT * FROM keys WHERE tenant = $1 AND kind = $2 AND key_id >= $4 AND key_id < $6",
            $(" AND ", $condition,)?
            " ORDER BY key_id LIMIT $8"
        )
    };
}
pub(super) use rows_by_id;

/// The rows of an order by a value. Parameters: tenant, kind, id and value to start after, value to stop at (1, 2, 3, `$from`, `$below`).
macro_rules! rows_by {
    ($value:literal, $from:literal, $below:literal) => {
        concat!(
            "SELECT *, ",
            $value,
            " AS value FROM keys WHERE tenant = $1 AND kind = $2 AND (",
            $value,
            ", key_id) > (",
            $from,
            ", $3) AND ",
            $value,
            " < ",
            $below,
            " ORDER BY ",
            $value,
            ", key_id LIMIT $8"
        )
    };
}
pub(super) use rows_by;

const BY_KEY_ID: &str = search!(rows_by_id!(), "key_id");
const NEVER_USED: &str = search!(rows_by_id!("last_used_time IS NULL"), "key_id");
/// Those with that status, and replaced ones whose time is over, which have an index of their own.
const REVOKED: &str = search!(
    concat!(
        "(",
        rows_by_id!("status = 'revoked'"),
        ") UNION ALL (",
        rows_by_id!("revoke_time < $10"),
        ") ORDER BY key_id LIMIT $8"
    ),
    "key_id"
);
const BY_NAME: &str = search!(rows_by!("name COLLATE \"C\"", "$4", "$6"), "value, key_id");
const BY_ACTOR: &str = search!(rows_by!("actor_id COLLATE \"C\"", "$4", "$6"), "value, key_id");
const BY_EXPIRY: &str = search!(rows_by!("expire_time", "$5", "$7"), "value, key_id");
const BY_LAST_USE: &str = search!(rows_by!("coalesce(last_used_time, create_time)", "$5", "$7"), "value, key_id");

pub(super) fn statement(order: SearchOrder) -> &'static str {
    match order {
        SearchOrder::KeyId => BY_KEY_ID,
        SearchOrder::Name => BY_NAME,
        SearchOrder::Actor => BY_ACTOR,
        SearchOrder::Expiry => BY_EXPIRY,
        SearchOrder::LastUse => BY_LAST_USE,
        SearchOrder::NeverUsed => NEVER_USED,
        SearchOrder::Revoked => REVOKED,
    }
}

/// Binds the range and the conditions of a query, and parameters 8 and 9.
pub(super) fn bind<'q, O, T>(
    statement: QueryAs<'q, Postgres, O, PgArguments>,
    query: &SearchQuery<'q>,
    eighth: u32,
    ninth: T,
) -> QueryAs<'q, Postgres, O, PgArguments>
where
    T: Encode<'q, Postgres> + Type<Postgres> + 'q,
{
    let (search, range) = (query.search, SearchRange::of(query));
    let prefixes = query.actors.prefixes();
    let prefixes = prefixes.map(|prefixes| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>());
    statement
        .bind(query.tenant.0)
        .bind(kind_text(query.kind))
        .bind(range.from_id)
        .bind(range.from_text)
        .bind(range.from_time)
        .bind(range.below_text)
        .bind(range.below_time)
        .bind(i64::from(eighth))
        .bind(ninth)
        .bind(query.now)
        .bind(&search.name_prefix)
        .bind(&search.actor_prefix)
        .bind(&search.key_id_prefix)
        .bind(&search.scope)
        .bind(search.state.map(status_text))
        .bind(search.expiring_before)
        .bind(search.unused_since)
        .bind(search.never_used)
        .bind(prefixes)
}

impl PostgresStore {
    pub(super) async fn search_keys(&self, query: &SearchQuery<'_>) -> Result<FoundKeys, StoreError> {
        let statement = || {
            let statement = query_as::<_, SearchRow<Timestamp>>(statement(query.order()));
            bind(statement, query, SCAN_MAX, i64::from(query.limit) + 1)
        };
        let rows = self.connections.rows(Access::Read, statement).await?;
        query.found(rows.into_iter().map(|row| {
            let (is_match, is_last) = (row.is_match, row.number == i64::from(SCAN_MAX));
            Ok(ScannedKey { key: row.key.try_into()?, is_match, is_last })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Migration, testing};

    /// The statement with values in place of its parameters.
    fn with_values(statement: &str) -> String {
        let values = [
            "'00000000-0000-0000-0000-000000000000'::uuid",
            "'issued'",
            "'a'",
            "'b'",
            "now()",
            "'c'",
            "now()",
            "10000",
            "51",
            "now()",
            "NULL",
            "NULL",
            "NULL",
            "'scope'",
            "NULL",
            "NULL",
            "NULL",
            "false",
            "NULL",
        ];
        let numbered = values.iter().enumerate().rev();
        numbered.fold(statement.to_owned(), |text, (index, value)| text.replace(&format!("${}", index + 1), value))
    }

    #[tokio::test]
    async fn every_order_reads_a_range_of_its_index_without_sorting() {
        let server = testing::Postgres::start();
        PostgresStore::open(&testing::options(&server, "postgres"), Migration::Automatic).await.unwrap();
        for (order, index, condition) in [
            (SearchOrder::KeyId, "keys_pkey", "(key_id >= 'b'::text) AND (key_id < 'c'::text)"),
            (
                SearchOrder::Name,
                "keys_by_name",
                "(ROW((name)::text, key_id) > ROW('b'::text, 'a'::text)) AND ((name)::text < 'c'::text)",
            ),
            (
                SearchOrder::Actor,
                "keys_by_actor_prefix",
                "(ROW((actor_id)::text, key_id) > ROW('b'::text, 'a'::text)) AND ((actor_id)::text < 'c'::text)",
            ),
            (
                SearchOrder::Expiry,
                "keys_by_expiry",
                "(ROW(expire_time, key_id) > ROW(now(), 'a'::text)) AND (expire_time < now())",
            ),
            (
                SearchOrder::LastUse,
                "keys_by_last_use",
                "(ROW(COALESCE(last_used_time, create_time), key_id) > ROW(now(), 'a'::text)) AND (COALESCE(last_used_time, create_time) < now())",
            ),
            (SearchOrder::NeverUsed, "keys_never_used", "(key_id >= 'b'::text) AND (key_id < 'c'::text)"),
            (SearchOrder::Revoked, "keys_by_status", "(key_id >= 'b'::text) AND (key_id < 'c'::text)"),
        ] {
            // The tables are empty, so other plans would be as cheap.
            let explain = format!(
                "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; EXPLAIN {}",
                with_values(statement(order))
            );
            let plan = server.query(&explain).unwrap();
            assert!(plan.contains(&format!("using {index} on")), "{order:?}: {plan}");
            assert!(plan.contains(condition), "{order:?}: {plan}");
            assert!(!plan.contains("Seq Scan"), "{order:?}: {plan}");
            assert!(!plan.contains("Sort  ("), "{order:?}: {plan}");
        }
    }
}
