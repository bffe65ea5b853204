//! A row of the audit trail, as it is stored.

use chrono::SecondsFormat;

use crate::clock::Timestamp;

/// A row. Identifiers and authentication codes are texts, so that a row that was tampered with can still be read and named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The tenant.
    pub tenant: String,
    /// The id: a UUID version 7. The rows of one process are ordered by it.
    pub id: String,
    /// When the row was written, shortly before the commit, in microseconds.
    pub time: Timestamp,
    /// The process that wrote the row.
    pub writer: String,
    /// The name of the event.
    pub event: String,
    /// Who made the request.
    pub principal: String,
    /// The roles of an administrator, separated by spaces.
    pub roles: Option<String>,
    /// The client's address.
    pub client_ip: Option<String>,
    /// The id of the request.
    pub request_id: String,
    /// The key.
    pub key_id: Option<String>,
    /// The actor of the key.
    pub actor_id: Option<String>,
    /// The members of the key that were changed or deleted, with their values before: a JSON object.
    pub before: Option<String>,
    /// The members of the key that were set or changed, with their values after: a JSON object.
    pub after: Option<String>,
    /// What else is known of the event: a JSON object.
    pub details: Option<String>,
    /// The authentication code of all of the above, in hexadecimal digits.
    pub mac: String,
    /// The place of the row in a chain; `None` until the row is sealed.
    pub seal: Option<Seal>,
}

/// The place of a row in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The chain.
    pub chain: String,
    /// The position, from 1.
    pub seq: i64,
    /// The authentication code of the row and of all rows before it in the chain, in hexadecimal digits.
    pub code: String,
}

impl AuditRow {
    /// A description for messages: event, id, time, and place in the chain.
    pub fn describe(&self) -> String {
        let place = self.seal.as_ref().map(|seal| format!(", row {} of chain {}", seal.seq, seal.chain));
        let key = self.key_id.as_ref().map(|key| format!(", key {key}"));
        let (place, key) = (place.unwrap_or_default(), key.unwrap_or_default());
        format!("{} ({} at {}{key}{place})", self.id, self.event, time_text(self.time))
    }
}

/// A time as RFC 3339 in UTC with microseconds.
pub fn time_text(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
