//! The SQL on the table of keys. Each statement that changes a key also adds the change to the feed.

use crate::key::{EffectiveStatus, KeyFilter};

/// The columns of a key as they are read. All are named, so that prepared statements stay valid when a column is added.
macro_rules! columns {
    () => {
        "tenant::text, kind, key_id, request_id, name, actor_id, scopes::text, metadata::text, status, \
         revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, revoke_time, \
         replaced_by, last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs::text, version"
    };
}
pub(super) use columns;

/// Adds a row to the feed for each row of `$rows`; `$change` is an expression on that row.
macro_rules! insert_changes {
    ($rows:literal, $change:literal) => {
        concat!(
            "INSERT INTO changes (tenant, kind, key_id, change, version) SELECT tenant, kind, key_id, ",
            $change,
            ", version FROM ",
            $rows
        )
    };
}

/// Replaces an active key by a new one. `$replace` is an update of the old key, `$log` adds it to the feed, `$json` is the new row. The new
/// row is added only if the old one was updated. If the new id is taken, the whole statement fails.
macro_rules! rotate {
    ($replace:expr, $log:expr, $json:literal, $audit:literal) => {
        concat!(
            "WITH replaced AS (",
            $replace,
            "), stored AS (",
            insert!($json, "WHERE EXISTS (SELECT 1 FROM replaced)"),
            "), replaced_logged AS (",
            $log,
            "), stored_logged AS (",
            insert_changes!("stored", "CASE kind WHEN 'issued' THEN 'issue' ELSE 'import' END"),
            "), audited AS (",
            insert_audit!($audit, "EXISTS (SELECT 1 FROM replaced)"),
            ") SELECT ",
            columns!(),
            " FROM replaced"
        )
    };
}

/// Adds any number of rows, given as one JSON text.
macro_rules! insert {
    ($json:literal, $on_conflict:literal) => {
        concat!(
            "INSERT INTO keys (tenant, kind, key_id, request_id, name, actor_id, scopes, metadata, status, \
             revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, revoke_time, \
             replaced_by, last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs, version) \
             SELECT tenant, kind, key_id, request_id, name, actor_id, scopes::jsonb, metadata::json, status, \
             revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, revoke_time, \
             replaced_by, last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs::jsonb, version \
             FROM json_to_recordset(",
            $json,
            "::json) AS new (tenant uuid, kind text, key_id text, request_id text, name text, actor_id text, \
             scopes text, metadata text, status text, revocation_reason text, revocation_description text, \
             visibility text, create_time timestamptz, update_time timestamptz, expire_time timestamptz, \
             revoke_time timestamptz, replaced_by text, last_used_time timestamptz, rate_limit_quota bigint, rate_limit_window bigint, allowed_cidrs text, \
             version bigint) ",
            $on_conflict,
            " RETURNING tenant, kind, key_id, version"
        )
    };
}

/// The columns of a row of the audit trail as they are read.
macro_rules! audit_columns {
    () => {
        "id::text, tenant::text, time, writer::text, event, principal, roles, client_ip, request_id, key_id, actor_id, before, \
         after, details, mac, chain::text, seq, seal"
    };
}
pub(super) use audit_columns;

/// Adds those rows to the audit trail that are given as one JSON text and fulfil a condition.
macro_rules! insert_audit {
    ($json:literal, $condition:literal) => {
        concat!(
            "INSERT INTO audit_events (id, tenant, time, writer, event, principal, roles, client_ip, request_id, key_id, actor_id, \
             before, after, details, mac) SELECT id, tenant, time, writer, event, principal, roles, client_ip, request_id, key_id, \
             actor_id, before, after, details, mac FROM json_to_recordset(",
            $json,
            "::json) AS audit (id uuid, tenant uuid, time timestamptz, writer uuid, event text, principal text, roles text, \
             client_ip text, request_id text, key_id text, actor_id text, before text, after text, details text, \
             mac text) WHERE ",
            $condition
        )
    };
}

/// Revokes an active key. Parameters: tenant, kind, id, reason, description, time, earliest expiry (1 to 7).
macro_rules! revoke {
    ($set:literal, $and:literal) => {
        concat!(
            "UPDATE keys SET status = 'revoked', revocation_reason = $4, revocation_description = $5, \
             update_time = $6, expire_time = greatest($7, expire_time), revoke_time = NULL, version = version + 1",
            $set,
            " WHERE tenant = $1 AND kind = $2 AND key_id = $3 AND status = 'active' \
             AND (revoke_time IS NULL OR revoke_time >= $6)",
            $and,
            " RETURNING *"
        )
    };
}

pub(super) const FIND: &str =
    concat!("SELECT ", columns!(), " FROM keys WHERE tenant = $1 AND kind = $2 AND key_id = $3");
pub(super) const FIND_MANY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM keys JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS named (tenant, kind, key_id) \
     USING (tenant, kind, key_id)"
);
pub(super) const FIND_BY_REQUEST: &str =
    concat!("SELECT ", columns!(), " FROM keys WHERE tenant = $1 AND kind = $2 AND request_id = $3");
/// The rows are inserted in one order, so that batches with the same keys cannot deadlock.
pub(super) const INSERT: &str = concat!(
    "WITH stored AS (",
    insert!("$1", "ORDER BY tenant, kind, key_id ON CONFLICT DO NOTHING"),
    "), logged AS (",
    insert_changes!("stored", "CASE kind WHEN 'issued' THEN 'issue' ELSE 'import' END"),
    "), audited AS (",
    insert_audit!("$2", "(tenant, key_id) IN (SELECT tenant, key_id FROM stored)"),
    ") SELECT key_id FROM stored"
);
pub(super) const REPLACE: &str = concat!(
    "WITH stored AS (UPDATE keys SET name = $4, scopes = $5::jsonb, metadata = $6::json, rate_limit_quota = $7, \
     rate_limit_window = $8, allowed_cidrs = $9::jsonb, update_time = $10, version = $11 \
     WHERE tenant = $1 AND kind = $2 AND key_id = $3 AND version = $12 RETURNING tenant, kind, key_id, version), \
     logged AS (",
    insert_changes!("stored", "'update'"),
    "), audited AS (",
    insert_audit!("$13", "EXISTS (SELECT 1 FROM stored)"),
    ") SELECT key_id FROM stored"
);
/// The actor, the expiry and the time to revoke before are in the audit row. The first two never change while a key lives, so the
/// time of its creation tells whether they are those of the revoked key.
pub(super) const REVOKE: &str = concat!(
    "WITH revoked AS (",
    revoke!("", " AND create_time = $8 AND revoke_time IS NOT DISTINCT FROM $10"),
    "), logged AS (",
    insert_changes!("revoked", "'revoke'"),
    "), audited AS (",
    insert_audit!("$9", "EXISTS (SELECT 1 FROM revoked)"),
    ") SELECT ",
    columns!(),
    " FROM revoked"
);
/// Parameters: those of `revoke!`, version, new row, new id, audit rows (8 to 11).
pub(super) const ROTATE: &str =
    rotate!(revoke!(", replaced_by = $10", " AND version = $8"), insert_changes!("replaced", "'rotate'"), "$9", "$11");
/// Parameters: tenant, kind, id, time, time to revoke, new id, version, new row, audit rows (1 to 9).
pub(super) const ROTATE_LATER: &str = rotate!(
    "UPDATE keys SET update_time = $4, revoke_time = $5, replaced_by = $6, version = version + 1 \
     WHERE tenant = $1 AND kind = $2 AND key_id = $3 AND version = $7 AND status = 'active' \
     AND (revoke_time IS NULL OR revoke_time >= $4) RETURNING *",
    "INSERT INTO changes (tenant, kind, key_id, change, version, revoke_time) \
     SELECT tenant, kind, key_id, 'update', version, revoke_time FROM replaced",
    "$8",
    "$9"
);
/// The rows are locked in one order, so that batches with the same keys cannot deadlock.
pub(super) const RECORD_LAST_USED: &str = "WITH used AS (SELECT tenant, kind, key_id FROM keys \
     JOIN unnest($3::uuid[], $4::text[], $5::text[]) AS named (tenant, kind, key_id) USING (tenant, kind, key_id) \
     WHERE last_used_time IS NULL OR last_used_time < $2 \
     ORDER BY tenant, kind, key_id FOR NO KEY UPDATE OF keys), \
     written AS (UPDATE keys SET last_used_time = $1 FROM used \
     WHERE keys.tenant = used.tenant AND keys.kind = used.kind AND keys.key_id = used.key_id RETURNING 1) \
     SELECT count(*) FROM written";
pub(super) const DELETE: &str = concat!(
    "WITH deleted AS (DELETE FROM keys WHERE tenant = $1 AND kind = $2 AND key_id = $3 AND version = $5 \
     RETURNING tenant, kind, key_id, version), \
     kept AS (INSERT INTO deleted_keys (tenant, kind, key_id, delete_time) \
     SELECT tenant, kind, key_id, $4 FROM deleted \
     ON CONFLICT (tenant, kind, key_id) DO UPDATE SET delete_time = excluded.delete_time), logged AS (",
    insert_changes!("deleted", "'delete'"),
    "), audited AS (",
    insert_audit!("$6", "EXISTS (SELECT 1 FROM deleted)"),
    ") SELECT version FROM deleted"
);
/// Locks the keys to purge. One caller at a time purges, without waiting: rows that another transaction has locked are
/// skipped. A key that has not expired by the database's clock stays, whatever time a node passes.
pub(super) const LOCK_EXPIRED: &str = concat!(
    "WITH purge_lock AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(7738151096025474131) AS acquired) SELECT ",
    columns!(),
    " FROM keys WHERE expire_time < $1 AND expire_time < now() AND (SELECT acquired FROM purge_lock) \
     ORDER BY expire_time LIMIT $2 FOR UPDATE SKIP LOCKED"
);
/// Purges keys that the transaction has locked.
pub(super) const PURGE: &str = concat!(
    "WITH purged AS (DELETE FROM keys USING unnest($1::uuid[], $2::text[], $3::text[]) AS expired (tenant, kind, key_id) \
     WHERE keys.tenant = expired.tenant AND keys.kind = expired.kind AND keys.key_id = expired.key_id \
     RETURNING keys.tenant, keys.kind, keys.key_id, keys.status, keys.update_time, keys.version), \
     kept AS (INSERT INTO deleted_keys (tenant, kind, key_id, delete_time) \
     SELECT tenant, kind, key_id, update_time FROM purged WHERE status = 'revoked' \
     ON CONFLICT (tenant, kind, key_id) DO UPDATE SET delete_time = excluded.delete_time), logged AS (",
    insert_changes!("purged", "'purge'"),
    "), audited AS (",
    insert_audit!("$4", "(tenant, key_id) IN (SELECT tenant, key_id FROM purged)"),
    ") SELECT tenant::text, kind, key_id, version FROM purged"
);
/// Adds rows to the audit trail that belong to no key.
pub(super) const INSERT_AUDIT_ROWS: &str =
    concat!("WITH audited AS (", insert_audit!("$1", "true"), " RETURNING 1) SELECT count(*) FROM audited");
pub(super) const PRUNE_DELETED: &str = "WITH pruned AS (DELETE FROM deleted_keys WHERE (tenant, kind, key_id) IN \
     (SELECT tenant, kind, key_id FROM deleted_keys WHERE delete_time < $1 ORDER BY delete_time LIMIT $2 \
     FOR UPDATE SKIP LOCKED) RETURNING 1) SELECT count(*) FROM pruned";
pub(super) const REVOKED_SINCE: &str = "SELECT tenant::text, kind, key_id, time, is_later FROM (\
     (SELECT tenant, kind, key_id, update_time AS time, false AS is_later FROM keys \
     WHERE status = 'revoked' AND update_time >= $1 ORDER BY update_time DESC LIMIT $2) \
     UNION ALL (SELECT tenant, kind, key_id, revoke_time, true FROM keys \
     WHERE revoke_time >= $1 ORDER BY revoke_time DESC LIMIT $2) \
     UNION ALL (SELECT tenant, kind, key_id, delete_time, false FROM deleted_keys \
     WHERE delete_time >= $1 ORDER BY delete_time DESC LIMIT $2)) AS revoked ORDER BY time DESC LIMIT $2";
pub(super) const COUNT_ACTIVE: &str = "SELECT count(*) FROM keys WHERE tenant = $1 AND status = 'active' \
     AND (revoke_time IS NULL OR revoke_time >= $2)";
pub(super) const PING: &str = "SELECT 1 FROM keys LIMIT 1";
/// The upper bound of the first page: greater than every id, whose characters are lower-case letters, digits and `-`.
pub(super) const ABOVE_ALL: &str = "~";

/// Lists keys, with one statement for each form of filter, so that each can use its index. Parameters: tenant, kind, upper
/// bound, limit, actor, now, prefixes of actors or NULL (1 to 7).
macro_rules! list {
    ($($condition:literal)*) => {
        concat!(
            "SELECT ", columns!(), " FROM keys WHERE tenant = $1 AND kind = $2 AND key_id < $3",
            $(" AND ", $condition,)*
            " AND ($7::text[] IS NULL OR actor_id ^@ ANY ($7))",
            " ORDER BY key_id DESC LIMIT $4"
        )
    };
}

/// Lists revoked keys: those with that status, and replaced ones whose time is over, which have an index of their own.
macro_rules! list_revoked {
    ($($condition:literal)?) => {
        concat!(
            "SELECT ", columns!(), " FROM (\
             (SELECT * FROM keys WHERE tenant = $1 AND kind = $2 AND key_id < $3 AND status = 'revoked'",
            $(" AND ", $condition,)?
            " ORDER BY key_id DESC LIMIT $4) UNION ALL \
             (SELECT * FROM keys WHERE tenant = $1 AND kind = $2 AND key_id < $3 AND revoke_time < $6",
            $(" AND ", $condition,)?
            " ORDER BY key_id DESC LIMIT $4)) AS revoked ORDER BY key_id DESC LIMIT $4"
        )
    };
}

const ALL: &str = list!();
const REVOKED: &str = list_revoked!();
const ACTIVE: &str = list!("status = 'active'" "(expire_time IS NULL OR expire_time >= $6)"
    "(revoke_time IS NULL OR revoke_time >= $6)");
const EXPIRED: &str = list!("status = 'active'" "expire_time < $6" "revoke_time IS NULL");
const OF_ACTOR: &str = list!("actor_id = $5");
const REVOKED_OF_ACTOR: &str = list_revoked!("actor_id = $5");
const ACTIVE_OF_ACTOR: &str = list!("actor_id = $5" "status = 'active'" "(expire_time IS NULL OR expire_time >= $6)"
    "(revoke_time IS NULL OR revoke_time >= $6)");
const EXPIRED_OF_ACTOR: &str = list!("actor_id = $5" "status = 'active'" "expire_time < $6" "revoke_time IS NULL");

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
