//! Writes an edited head: the received fields without those that are removed, and the fields that are set.

use bytes::{BufMut, BytesMut};
use http::StatusCode;
use httparse::Header;

use crate::gateway::http1::head::put_field;
use crate::pipeline::FieldEdits;

/// Writes the head of a request for an upstream.
pub(super) fn write_request_head(
    out: &mut BytesMut,
    method: &str,
    target: &str,
    fields: &[Header<'_>],
    edits: &FieldEdits,
) {
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.put_slice(part.as_bytes());
    }
    write_fields(out, fields, edits);
    out.put_slice(b"\r\n");
}

/// Writes the head of a response for a client. With `closes` it says that the connection ends.
pub(super) fn write_response_head(
    out: &mut BytesMut,
    status: StatusCode,
    reason: &str,
    fields: &[Header<'_>],
    edits: &FieldEdits,
    closes: bool,
) {
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.put_slice(part.as_bytes());
    }
    write_fields(out, fields, edits);
    if closes {
        put_field(out, "Connection", b"close");
    }
    out.put_slice(b"\r\n");
}

fn write_fields(out: &mut BytesMut, fields: &[Header<'_>], edits: &FieldEdits) {
    for field in fields.iter().filter(|field| !edits.removes(field.name)) {
        put_field(out, field.name, field.value);
    }
    for (name, value) in edits.set() {
        put_field(out, name.as_str(), value.as_bytes());
    }
}
