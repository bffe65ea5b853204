//! Searches of keys.

use serde_json::json;
use sqlx::query::QueryAs;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Encode, Sqlite, Type};

use super::error::store_error;
use super::store::SqliteStore;
use crate::key::SearchOrder;
use crate::store::error::StoreError;
use crate::store::row::kind_text;
use crate::store::search::{FoundKeys, ScannedKey, SearchQuery};
use crate::store::search_range::{SearchRange, status_text};
use crate::store::search_row::SearchRow;

/// The maximum number of rows that one search reads, so that conditions which few keys meet do not read the whole table: in the order of the
/// table, and in another one, in which each row is a lookup.
pub(super) const SCAN_MAX: u32 = 5000;
pub(super) const LOOKUPS_MAX: u32 = 1500;

/// The rest of the conditions on a row, whatever the order. Parameters 10 to 19: now, prefixes of name, actor and id, scope, status, expiry,
/// last use, never used, prefixes of the actors of the caller as a JSON array.
macro_rules! conditions {
    () => {
        "(?11 IS NULL OR substr(name, 1, length(?11)) = ?11) AND (?12 IS NULL OR substr(actor_id, 1, length(?12)) = ?12) \
         AND (?13 IS NULL OR substr(key_id, 1, length(?13)) = ?13) \
         AND (?14 IS NULL OR EXISTS (SELECT 1 FROM json_each(scopes) WHERE value = ?14)) \
         AND (?15 IS NULL OR ?15 = CASE WHEN status = 'revoked' OR revoke_time < ?10 THEN 'revoked' \
         WHEN expire_time < ?10 THEN 'expired' ELSE 'active' END) \
         AND (?16 IS NULL OR expire_time < ?16) AND (?17 IS NULL OR last_use < ?17) \
         AND (NOT ?18 OR last_used_time IS NULL) \
         AND (?19 IS NULL OR EXISTS (SELECT 1 FROM json_each(?19) WHERE substr(actor_id, 1, length(value)) = value))"
    };
}
pub(super) use conditions;

/// Reads at most ?8 rows of an order, numbers them, and returns the first ?9 of those that meet the conditions. The last of the ?8 rows is
/// returned too, because the next search starts after it. The inner query has the order; the others keep it.
macro_rules! search {
    ($rows:expr) => {
        concat!(
            "SELECT * FROM (SELECT *, coalesce(",
            conditions!(),
            ", false) AS is_match, row_number() OVER () AS number FROM (",
            $rows,
            ")) WHERE is_match OR number = ?8 LIMIT ?9"
        )
    };
}

/// The range of an order by id. Parameters: tenant, kind, first id, first id of the rows that follow (1, 2, 4, 6).
macro_rules! range_by_id {
    ($($index:ident, $condition:literal)?) => {
        concat!(
            "SELECT * FROM keys" $(, " INDEXED BY ", stringify!($index))?,
            " WHERE tenant = ?1 AND kind = ?2 AND key_id >= ?4 AND key_id < ?6"
            $(, " AND ", $condition)?
        )
    };
}
pub(super) use range_by_id;

/// The rows of an order by a value. Parameters: tenant, kind, id and value to start after, value to stop at (1, 2, 3, `$from`, `$below`).
macro_rules! rows_by {
    ($index:ident, $value:literal, $from:literal, $below:literal) => {
        concat!(
            "SELECT * FROM keys INDEXED BY ",
            stringify!($index),
            " WHERE tenant = ?1 AND kind = ?2 AND (",
            $value,
            ", key_id) > (",
            $from,
            ", ?3) AND ",
            $value,
            " < ",
            $below,
            " ORDER BY ",
            $value,
            ", key_id LIMIT ?8"
        )
    };
}
pub(super) use rows_by;

const BY_KEY_ID: &str = search!(concat!(range_by_id!(), " ORDER BY key_id LIMIT ?8"));
const NEVER_USED: &str =
    search!(concat!(range_by_id!(keys_never_used, "last_used_time IS NULL"), " ORDER BY key_id LIMIT ?8"));
/// Those with that status, and replaced ones whose time is over, which have an index of their own. Both ranges are read in order and merged.
const REVOKED: &str = search!(concat!(
    range_by_id!(keys_by_status, "status = 'revoked'"),
    " UNION ALL ",
    range_by_id!(keys_replaced, "revoke_time < ?10"),
    " ORDER BY key_id LIMIT ?8"
));
const BY_NAME: &str = search!(rows_by!(keys_by_name, "name", "?4", "?6"));
const BY_ACTOR: &str = search!(rows_by!(keys_by_actor, "actor_id", "?4", "?6"));
const BY_EXPIRY: &str = search!(rows_by!(keys_by_expiry, "expire_time", "?5", "?7"));
const BY_LAST_USE: &str = search!(rows_by!(keys_by_last_use, "last_use", "?5", "?7"));

fn statement(order: SearchOrder) -> &'static str {
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
    statement: QueryAs<'q, Sqlite, O, SqliteArguments>,
    query: &SearchQuery<'q>,
    eighth: u32,
    ninth: T,
) -> QueryAs<'q, Sqlite, O, SqliteArguments>
where
    T: Encode<'q, Sqlite> + Type<Sqlite> + 'q,
{
    let (search, range) = (query.search, SearchRange::of(query));
    statement
        .bind(query.tenant.to_string())
        .bind(kind_text(query.kind))
        .bind(range.from_id)
        .bind(range.from_text)
        .bind(range.from_time.timestamp_micros())
        .bind(range.below_text)
        .bind(range.below_time.timestamp_micros())
        .bind(eighth)
        .bind(ninth)
        .bind(query.now.timestamp_micros())
        .bind(&search.name_prefix)
        .bind(&search.actor_prefix)
        .bind(&search.key_id_prefix)
        .bind(&search.scope)
        .bind(search.state.map(status_text))
        .bind(search.expiring_before.map(|time| time.timestamp_micros()))
        .bind(search.unused_since.map(|time| time.timestamp_micros()))
        .bind(search.never_used)
        .bind(query.actors.prefixes().map(|prefixes| json!(prefixes).to_string()))
}

impl SqliteStore {
    pub(super) async fn search_keys(&self, query: &SearchQuery<'_>) -> Result<FoundKeys, StoreError> {
        let scan_max = if query.order() == SearchOrder::KeyId { SCAN_MAX } else { LOOKUPS_MAX };
        let statement = sqlx::query_as(statement(query.order()));
        let rows: Vec<SearchRow<i64>> = bind(statement, query, scan_max, query.limit.saturating_add(1))
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        query.found(rows.into_iter().map(|row| {
            let (is_match, is_last) = (row.is_match, row.number == i64::from(scan_max));
            Ok(ScannedKey { key: row.key.try_into()?, is_match, is_last })
        }))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::store::SqliteOptions;

    #[tokio::test]
    async fn every_order_uses_its_index_without_sorting() {
        let store = SqliteStore::open(&SqliteOptions { path: None, max_connections: 1 }).await.unwrap();
        for (order, index) in [
            (SearchOrder::KeyId, "PRIMARY KEY (tenant=? AND kind=? AND key_id>? AND key_id<?)"),
            (SearchOrder::Name, "INDEX keys_by_name (tenant=? AND kind=? AND (name,key_id)>(?,?) AND name<?)"),
            (
                SearchOrder::Actor,
                "INDEX keys_by_actor (tenant=? AND kind=? AND (actor_id,key_id)>(?,?) AND actor_id<?)",
            ),
            (
                SearchOrder::Expiry,
                "INDEX keys_by_expiry (tenant=? AND kind=? AND (expire_time,key_id)>(?,?) AND expire_time<?)",
            ),
            (
                SearchOrder::LastUse,
                "INDEX keys_by_last_use (tenant=? AND kind=? AND (last_use,key_id)>(?,?) AND last_use<?)",
            ),
            (SearchOrder::NeverUsed, "INDEX keys_never_used (tenant=? AND kind=? AND key_id>? AND key_id<?)"),
            (SearchOrder::Revoked, "INDEX keys_by_status (tenant=? AND kind=? AND status=? AND key_id>? AND key_id<?)"),
        ] {
            let explain = format!("EXPLAIN QUERY PLAN {}", statement(order));
            let rows = sqlx::query(sqlx::AssertSqlSafe(explain)).fetch_all(&store.pool).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let plan = plan.join("\n");
            assert!(plan.contains(&format!("SEARCH keys USING {index}")), "{order:?}: {plan}");
            assert!(!plan.contains("SCAN keys") && !plan.contains("ORDER BY"), "{order:?}: {plan}");
        }
    }
}
