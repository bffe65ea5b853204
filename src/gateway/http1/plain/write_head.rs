//! Writes edited heads: the received fields without those that are removed, the fields that are set, and the framing.

use std::time::Instant;

use bytes::BytesMut;
use http::StatusCode;
use httparse::Header;

use super::response_head::{Framing, ResponseHead};
use crate::gateway::http1::date::put_date;
use crate::gateway::http1::head_writer::{HeadWriter, SEPARATORS};
use crate::pipeline::FieldEdits;

/// Room for the first line and for the fields of the framing.
const LINES: usize = 192;

/// The head of a request for an endpoint. `length` is the length of its body, if the client has named one.
pub(super) fn request_head(
    (method, target): (&str, &str),
    fields: &[Header<'_>],
    length: Option<u64>,
    edits: &FieldEdits,
) -> BytesMut {
    let mut out = HeadWriter::with_capacity(size_of_fields(fields, edits) + target.len() + LINES);
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.put(part.as_bytes());
    }
    put_fields(&mut out, fields, edits);
    if let Some(length) = length {
        put_length(&mut out, length);
    }
    out.put(b"\r\n");
    out.finish()
}

/// The head of a response for a client that arrived at `now`, with room for this number of bytes after it. With `closes` it says that the
/// connection ends.
pub(super) fn response_head(
    head: &ResponseHead<'_, '_>,
    edits: &FieldEdits,
    closes: bool,
    (now, room): (Instant, usize),
) -> BytesMut {
    let size = size_of_fields(head.fields, edits) + head.reason.len() + LINES;
    let mut out = HeadWriter::with_capacity_and_room(size, room);
    out.put_status_line(head.status, head.reason);
    put_fields(&mut out, head.fields, edits);
    match head.framing {
        Framing::Chunked => out.put_field("Transfer-Encoding", b"chunked"),
        // The length of what a GET would return may be a part of a response without a body.
        Framing::Length(_) | Framing::None => {
            let has_length = !head.status.is_informational() && head.status != StatusCode::NO_CONTENT;
            if let Some(length) = head.length.filter(|_| has_length) {
                put_length(&mut out, length);
            }
        }
        Framing::UntilClose => {}
    }
    if !head.status.is_informational() {
        if !head.fields.iter().any(|field| field.name.eq_ignore_ascii_case("date")) {
            put_date(&mut out, now);
        }
        if closes {
            out.put_field("Connection", b"close");
        }
    }
    out.put(b"\r\n");
    out.finish()
}

fn put_length(out: &mut HeadWriter, length: u64) {
    out.put_field("Content-Length", itoa::Buffer::new().format(length).as_bytes());
}

fn put_fields(out: &mut HeadWriter, fields: &[Header<'_>], edits: &FieldEdits) {
    for field in fields.iter().filter(|field| !is_framing(field.name) && !edits.removes(field.name)) {
        out.put_field(field.name, field.value);
    }
    for (name, value) in edits.set_as_text() {
        out.put_field(name, value.as_bytes());
    }
}

/// Whether a field belongs to the framing, which is written anew.
fn is_framing(name: &str) -> bool {
    match name.len() {
        14 => name.eq_ignore_ascii_case("content-length"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

/// The size of all fields that may be written.
fn size_of_fields(fields: &[Header<'_>], edits: &FieldEdits) -> usize {
    let received = fields.iter().map(|field| field.name.len() + field.value.len() + SEPARATORS);
    let set = edits.set_as_text().map(|(name, value)| name.len() + value.len() + SEPARATORS);
    received.sum::<usize>() + set.sum::<usize>()
}
