//! The JSON form of a row: in the admin API, in exports and in the output of sealed rows.

use serde_json::{Map, Value};

use super::row::{AuditRow, time_text};

/// The members of a row. Absent ones are left out.
pub fn to_json(row: &AuditRow) -> Value {
    let mut members = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    let text = |text: &String| Some(Value::from(text.as_str()));
    add("id", text(&row.id));
    add("time", Some(time_text(row.time).into()));
    add("event", text(&row.event));
    add("principal", text(&row.principal));
    add("roles", row.roles.as_ref().map(|roles| roles.split(' ').collect()));
    add("client_ip", row.client_ip.as_ref().and_then(text));
    add("request_id", text(&row.request_id));
    add("tenant", text(&row.tenant));
    add("key_id", row.key_id.as_ref().and_then(text));
    add("actor_id", row.actor_id.as_ref().and_then(text));
    add("before", row.before.as_deref().map(parsed));
    add("after", row.after.as_deref().map(parsed));
    add("details", row.details.as_deref().map(parsed));
    add("writer", text(&row.writer));
    add("mac", text(&row.mac));
    if let Some(seal) = &row.seal {
        add("chain", text(&seal.chain));
        add("seq", Some(seal.seq.into()));
        add("seal", text(&seal.code));
    }
    Value::Object(members)
}

/// The JSON in a text; the text itself if it is not JSON, as after tampering.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
