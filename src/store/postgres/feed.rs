//! The feed of changes. A position is a PostgreSQL snapshot: it names the transactions whose changes were read. So a change
//! that a slow transaction commits late is not skipped, and changes of faster transactions do not wait for it.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::query_as;

use super::error::store_error;
use super::options::PostgresOptions;
use super::pool::Access;
use super::store::PostgresStore;
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::feed::{Change, ChangeFeed, ChangeKind, ChangeListener, Changes, Position};
use crate::store::row::{read_id, read_tenant};
use crate::store::row_struct::row_struct;

/// Maximum rows per pruning, so that the statement stays within its timeout.
const PRUNE_MAX: i64 = 10_000;
const CHANNEL: &str = "keygate_changes";
const POSITION: &str = "SELECT pg_current_snapshot()::text";
/// Changes that are visible in snapshot `$2` (default: the current one), not visible in snapshot `$1`, and after row (`$3`,
/// `$4`). Returns one row without a change if there is none. If the current transactions are behind those of `$1`, this is
/// another database than the one that `$1` is from. A bound of pruned changes that is ahead of the current transactions is that of
/// another server, whose dump was restored here: no change of this server was pruned yet.
pub(super) const CHANGES_AFTER: &str = "SELECT upto::text, clock_timestamp() AS read_time, \
     (pg_snapshot_xmin($1::text::pg_snapshot) < pruned.xid AND pruned.xid <= pg_snapshot_xmax(pg_current_snapshot())) \
     OR pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax($1::text::pg_snapshot) AS lost, \
     next.xid::text, next.seq, next.tenant::text, next.kind, next.key_id, next.change, next.version, next.time, next.revoke_time \
     FROM coalesce($2::text::pg_snapshot, pg_current_snapshot()) AS upto CROSS JOIN pruned_changes AS pruned \
     LEFT JOIN LATERAL (SELECT * FROM changes \
     WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND (xid, seq) > ($3::text::xid8, $4) \
     AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) AND pg_visible_in_snapshot(xid, upto) \
     ORDER BY xid, seq LIMIT $5) AS next ON true ORDER BY next.xid, next.seq";
const RECENT: &str = "SELECT tenant::text, kind, key_id, change, version, time, revoke_time FROM changes \
     WHERE time >= clock_timestamp() - make_interval(secs => $1) ORDER BY time DESC LIMIT $2";
/// Removes changes of transactions that were older than the last mark before the cut-off time, moves the bound of pruned
/// changes there, and adds a mark for later calls. Changes, marks and a bound of later transactions than the current ones are those of
/// another server, whose dump was restored here.
const PRUNE: &str = "WITH here AS (SELECT pg_snapshot_xmax(pg_current_snapshot()) AS next), \
     bound AS (SELECT time, xid FROM change_marks, here \
     WHERE time <= clock_timestamp() - make_interval(secs => $1) AND xid <= here.next ORDER BY time DESC LIMIT 1), \
     deleted AS (DELETE FROM changes WHERE (xid, seq) IN (SELECT changes.xid, seq FROM changes, bound, here \
     WHERE changes.xid < bound.xid OR changes.xid >= here.next ORDER BY changes.xid, seq LIMIT $2) RETURNING 1), \
     moved AS (UPDATE pruned_changes SET xid = bound.xid FROM bound, here \
     WHERE pruned_changes.xid < bound.xid OR pruned_changes.xid > here.next), \
     spent AS (DELETE FROM change_marks USING bound WHERE change_marks.time < bound.time), \
     marked AS (INSERT INTO change_marks DEFAULT VALUES ON CONFLICT DO NOTHING) \
     SELECT count(*) FROM deleted";

/// A parsed position: the snapshot that was read completely, and how far the next one was read.
struct ParsedPosition<'a> {
    read: &'a str,
    page: Option<Page<'a>>,
}

struct Page<'a> {
    upto: &'a str,
    xid: &'a str,
    seq: i64,
}

row_struct! {
    /// A row of [`CHANGES_AFTER`]. The optional columns but the last are all present or all absent.
    struct ChangeRow {
        upto: String,
        read_time: Timestamp,
        lost: bool,
        xid: Option<String>,
        seq: Option<i64>,
        tenant: Option<String>,
        kind: Option<String>,
        key_id: Option<String>,
        change: Option<String>,
        version: Option<i64>,
        time: Option<Timestamp>,
        revoke_time: Option<Timestamp>,
    }
}

impl<'a> ParsedPosition<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('/');
        let read = parts.next()?;
        let page = match parts.next() {
            Some(upto) => Some(Page { upto, xid: parts.next()?, seq: parts.next()?.parse().ok()? }),
            None => None,
        };
        Some(Self { read, page })
    }
}

impl ChangeRow {
    fn change(self) -> Option<Change> {
        let row = RecentRow {
            tenant: self.tenant?,
            kind: self.kind?,
            key_id: self.key_id?,
            change: self.change?,
            version: self.version?,
            time: self.time?,
            revoke_time: self.revoke_time,
        };
        row.change()
    }
}

row_struct! {
    /// A row of `changes`, without its position.
    struct RecentRow {
        tenant: String,
        kind: String,
        key_id: String,
        change: String,
        version: i64,
        time: Timestamp,
        revoke_time: Option<Timestamp>,
    }
}

impl RecentRow {
    fn change(self) -> Option<Change> {
        Some(Change {
            tenant: read_tenant(&self.tenant)?,
            id: read_id(&self.kind, &self.key_id)?,
            kind: ChangeKind::from_name(&self.change)?,
            version: self.version.try_into().ok()?,
            time: self.time,
            revoke_time: self.revoke_time,
        })
    }
}

#[async_trait]
impl ChangeFeed for PostgresStore {
    async fn position(&self) -> Result<Position, StoreError> {
        let rows = self.feed.rows(Access::Read, || query_as::<_, (String,)>(POSITION)).await?;
        rows.into_iter().next().map(|(snapshot,)| Position(snapshot)).ok_or_else(no_row)
    }

    async fn changes_after(&self, position: &Position, limit: u32) -> Result<Option<Changes>, StoreError> {
        let limit = limit.max(1);
        let parsed = ParsedPosition::parse(&position.0);
        let parsed = parsed.ok_or_else(|| StoreError::Corrupt("a position from another store".into()))?;
        let query = || {
            query_as::<_, ChangeRow>(CHANGES_AFTER)
                .bind(parsed.read)
                .bind(parsed.page.as_ref().map(|page| page.upto))
                .bind(parsed.page.as_ref().map_or("0", |page| page.xid))
                .bind(parsed.page.as_ref().map_or(0, |page| page.seq))
                .bind(i64::from(limit))
        };
        let rows = self.feed.rows(Access::Read, query).await?;
        let (first, last) = rows.first().zip(rows.last()).ok_or_else(no_row)?;
        if first.lost {
            return Ok(None);
        }
        let full = first.seq.is_some() && rows.len() >= limit as usize;
        let position = match (&last.xid, last.seq) {
            (Some(xid), Some(seq)) if full => format!("{}/{}/{xid}/{seq}", parsed.read, last.upto),
            _ => last.upto.clone(),
        };
        // After the last page of a snapshot, read what was committed while its pages were read.
        let more = full || parsed.page.is_some();
        let read_time = first.read_time;
        let changes = rows.into_iter().filter(|row| row.seq.is_some());
        let changes = changes.map(|row| row.change().ok_or_else(unreadable));
        let changes = changes.collect::<Result<_, _>>()?;
        Ok(Some(Changes { changes, position: Position(position), more, read_time }))
    }

    async fn recent(&self, within: Duration, limit: u32) -> Result<Vec<Change>, StoreError> {
        let query = || query_as::<_, RecentRow>(RECENT).bind(within.as_secs_f64()).bind(i64::from(limit));
        let rows = self.feed.rows(Access::Read, query).await?;
        rows.into_iter().map(|row| row.change().ok_or_else(unreadable)).collect()
    }

    async fn prune(&self, older_than: Duration) -> Result<u64, StoreError> {
        let query = || query_as::<_, (i64,)>(PRUNE).bind(older_than.as_secs_f64()).bind(PRUNE_MAX);
        let rows = self.feed.rows(Access::Write, query).await?;
        Ok(rows.first().map_or(0, |(count,)| count.unsigned_abs()))
    }

    async fn listen(&self) -> Result<Box<dyn ChangeListener>, StoreError> {
        let listener = Some(listen(&self.options).await?);
        Ok(Box::new(PostgresListener { options: self.options.clone(), listener }))
    }
}

fn unreadable() -> StoreError {
    StoreError::Corrupt("a row of changes".into())
}

fn no_row() -> StoreError {
    StoreError::Corrupt("no row of pruned_changes".into())
}

/// A listener on a connection outside of the pool.
struct PostgresListener {
    options: PostgresOptions,
    listener: Option<PgListener>,
}

#[async_trait]
impl ChangeListener for PostgresListener {
    async fn woken(&mut self) -> Result<(), StoreError> {
        let Some(listener) = &mut self.listener else {
            self.listener = Some(listen(&self.options).await?);
            // Notifications may have been missed.
            return Ok(());
        };
        // Also returns without a notification after it has lost the connection and connected again.
        let woken = listener.try_recv().await.map(drop);
        while listener.next_buffered().is_some() {}
        woken.map_err(|error| {
            self.listener = None;
            store_error(&error)
        })
    }
}

async fn listen(options: &PostgresOptions) -> Result<PgListener, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(options.connect_timeout)
        .connect_lazy_with(options.connect_options()?);
    let mut listener = PgListener::connect_with(&pool).await.map_err(|error| store_error(&error))?;
    listener.ignore_pool_close_event(true);
    listener.listen(CHANNEL).await.map_err(|error| store_error(&error))?;
    Ok(listener)
}
