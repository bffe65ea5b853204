//! Conversion between rows of the audit tables and their records, and the statement of a page, for every database.

use serde::Serialize;

use super::audit_store::AuditQuery;
use super::error::StoreError;
use super::row::TimeColumn;
use super::row_struct::row_struct;
use crate::audit::{Anchor, AuditEvent, AuditRow, ChainRecord, Seal};
use crate::clock::Timestamp;

row_struct! {
    /// A row of `audit_events`; `M` is the database's type of a time.
    #[derive(Serialize)]
    pub(super) struct AuditEventRow<M> {
        pub(super) id: String,
        pub(super) tenant: String,
        pub(super) time: M,
        pub(super) writer: String,
        pub(super) event: String,
        pub(super) principal: String,
        pub(super) roles: Option<String>,
        pub(super) client_ip: Option<String>,
        pub(super) request_id: String,
        pub(super) key_id: Option<String>,
        pub(super) actor_id: Option<String>,
        pub(super) before: Option<String>,
        pub(super) after: Option<String>,
        pub(super) details: Option<String>,
        pub(super) mac: String,
        pub(super) chain: Option<String>,
        pub(super) seq: Option<i64>,
        pub(super) seal: Option<String>,
    }
}

row_struct! {
    /// A row of `audit_chains`.
    pub(super) struct ChainRow {
        chain: String,
        seq: i64,
        seal: String,
        secret: String,
        anchor_seq: i64,
        anchor_seal: String,
        anchor_mac: String,
    }
}

impl<M: TimeColumn> From<&AuditRow> for AuditEventRow<M> {
    fn from(row: &AuditRow) -> Self {
        let row = row.clone();
        Self {
            id: row.id,
            tenant: row.tenant,
            time: M::from_time(row.time),
            writer: row.writer,
            event: row.event,
            principal: row.principal,
            roles: row.roles,
            client_ip: row.client_ip,
            request_id: row.request_id,
            key_id: row.key_id,
            actor_id: row.actor_id,
            before: row.before,
            after: row.after,
            details: row.details,
            mac: row.mac,
            chain: None,
            seq: None,
            seal: None,
        }
    }
}

impl<M: TimeColumn> From<AuditEventRow<M>> for AuditRow {
    fn from(row: AuditEventRow<M>) -> Self {
        let seal =
            row.seq.map(|seq| Seal { chain: row.chain.unwrap_or_default(), seq, code: row.seal.unwrap_or_default() });
        Self {
            id: row.id,
            tenant: row.tenant,
            // A time that cannot be represented was tampered with; the row's code shows it.
            time: row.time.time().unwrap_or_default(),
            writer: row.writer,
            event: row.event,
            principal: row.principal,
            roles: row.roles,
            client_ip: row.client_ip,
            request_id: row.request_id,
            key_id: row.key_id,
            actor_id: row.actor_id,
            before: row.before,
            after: row.after,
            details: row.details,
            mac: row.mac,
            seal,
        }
    }
}

impl From<ChainRow> for ChainRecord {
    fn from(row: ChainRow) -> Self {
        let anchor = Anchor { seq: row.anchor_seq, seal: row.anchor_seal, mac: row.anchor_mac };
        Self { chain: row.chain, seq: row.seq, seal: row.seal, secret: row.secret, anchor }
    }
}

/// The rows as one JSON text.
pub(super) fn json<M: TimeColumn + Serialize>(rows: &[AuditRow]) -> Result<String, StoreError> {
    let rows: Vec<AuditEventRow<M>> = rows.iter().map(Into::into).collect();
    serde_json::to_string(&rows).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// How a database writes parameters, which are all texts.
pub(super) struct Dialect {
    /// `SELECT` and the columns.
    pub(super) select: &'static str,
    /// The character before the number of a parameter.
    pub(super) parameter: char,
    /// The cast of an id.
    pub(super) id: &'static str,
    /// The cast of a text.
    pub(super) text: &'static str,
    /// A time.
    pub(super) time: fn(Timestamp) -> String,
}

/// The statement of a page, and its parameters. It has only the conditions that the query has, so that each can use its index.
pub(super) fn page(query: &AuditQuery, dialect: &Dialect) -> (String, Vec<String>) {
    let mut parameters = Vec::new();
    let mut add = |value: String| {
        parameters.push(value);
        format!("{}{}", dialect.parameter, parameters.len())
    };
    let tenants: Vec<_> =
        query.tenants.iter().map(|tenant| format!("{}{}", add(tenant.to_string()), dialect.id)).collect();
    let mut conditions = vec![format!("tenant IN ({})", tenants.join(", "))];
    let (order, direction) = if query.ascending { (">", "ASC") } else { ("<", "DESC") };
    if let Some(after) = &query.after {
        conditions.push(format!("id {order} {}{}", add(after.clone()), dialect.id));
    }
    // Ids begin with the time; the bounds let the primary key find the range.
    if let Some(from) = query.from {
        conditions.push(format!("id >= {}{}", add(least_id(from)), dialect.id));
        conditions.push(format!("time >= {}", (dialect.time)(from)));
    }
    if let Some(to) = query.to {
        conditions.push(format!("id < {}{}", add(least_id(to + chrono::TimeDelta::milliseconds(1))), dialect.id));
        conditions.push(format!("time < {}", (dialect.time)(to)));
    }
    for (column, value) in [("principal", &query.principal), ("key_id", &query.key_id), ("actor_id", &query.actor_id)] {
        if let Some(value) = value {
            conditions.push(format!("{column} = {}", add(value.clone())));
        }
    }
    if let Some(prefixes) = query.actors.prefixes() {
        let mut starts_with = |prefix: &str| {
            let prefix = format!("{}{}", add(prefix.to_owned()), dialect.text);
            format!("substr(actor_id, 1, length({prefix})) = {prefix}")
        };
        let any: Vec<_> = prefixes.iter().map(|prefix| starts_with(prefix)).collect();
        conditions.push(if any.is_empty() { "false".to_owned() } else { format!("({})", any.join(" OR ")) });
    }
    conditions.push(events(&query.events));
    let text = format!(
        "{} FROM audit_events WHERE {} ORDER BY audit_events.id {direction} LIMIT {}",
        dialect.select,
        conditions.join(" AND "),
        query.limit
    );
    (text, parameters)
}

/// The condition on the event. The names are constants.
fn events(events: &[AuditEvent]) -> String {
    if events.is_empty() {
        return format!("event <> '{}'", AuditEvent::Checkpoint.name());
    }
    let names: Vec<_> = events.iter().map(|event| format!("'{}'", event.name())).collect();
    match &names[..] {
        // The form of the partial index of checkpoints.
        [one] => format!("event = {one}"),
        _ => format!("event IN ({})", names.join(", ")),
    }
}

/// The least UUID version 7 of a millisecond.
fn least_id(time: Timestamp) -> String {
    let millis = time.timestamp_millis().clamp(0, (1 << 48) - 1);
    let [_, _, bytes @ ..] = millis.to_be_bytes();
    let digits = hex::encode(bytes);
    format!("{}-{}-0000-0000-000000000000", &digits[..8], &digits[8..])
}

/// A time as a literal of SQLite.
#[cfg(feature = "sqlite")]
pub(super) fn micros(time: Timestamp) -> String {
    time.timestamp_micros().to_string()
}

/// A time as a literal of PostgreSQL.
#[cfg(feature = "postgres")]
pub(super) fn timestamptz(time: Timestamp) -> String {
    format!("'{}'::timestamptz", crate::audit::time_text(time))
}
