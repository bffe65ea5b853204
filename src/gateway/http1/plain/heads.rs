//! The heads of plain requests and responses without connections, for fuzz targets and benchmarks.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use http::{HeaderValue, Method, StatusCode, Version};

use super::response_head::{Framing, ResponseHead};
use super::write_head::{request_head, response_head};
use crate::config::ListenerLimits;
use crate::gateway::http1::fields::{FieldStorage, HeadFields};
use crate::gateway::http1::head::ParsedHead;
use crate::pipeline::headers::edit_response;
use crate::pipeline::{Connection, Exchange, RequestHead, ResponseForm, ResponseInfo, Snapshot};

/// The head of a response as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslatedResponse {
    /// The head.
    pub head: BytesMut,
    /// The length of the head that was received.
    pub length: usize,
    /// The status.
    pub status: StatusCode,
    /// The length of the body; `None` for chunks, and for a body that ends with the connection.
    pub body: Option<u64>,
    /// Whether the body consists of chunks.
    pub is_chunked: bool,
}

/// Translates the head of a response at the start of some bytes, as for a route without rules. `None` if there is none, or an invalid one.
pub fn translate_response(bytes: &[u8], method: &Method, closes: bool) -> Option<TranslatedResponse> {
    static REQUEST_ID: HeaderValue = HeaderValue::from_static("id");
    let mut storage = FieldStorage::new();
    let (head, length) = ResponseHead::parse(bytes, &mut storage, method).ok()?;
    let edits = edit_response(&HeadFields::new(head.fields), head.status, &REQUEST_ID);
    let body = match head.framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let is_chunked = head.framing == Framing::Chunked;
    let (status, head) = (head.status, response_head(&head, &edits, closes, (Instant::now(), 0)));
    Some(TranslatedResponse { head, length, status, body, is_chunked })
}

/// Takes a request and the response of its upstream through everything that the fast path does besides moving bytes. Returns the heads
/// that are sent. `None` if the request is rejected, or needs more than what is in memory.
pub fn exchange_heads<U>(
    snapshot: &Arc<Snapshot<U>>,
    connection: &mut Connection,
    (request, response): (&[u8], &[u8]),
    upstream_host: HeaderValue,
) -> Option<(BytesMut, BytesMut)> {
    let mut storage = FieldStorage::new();
    let head = ParsedHead::parse(request, &mut storage, &ListenerLimits::default()).ok()?;
    let fields = HeadFields::new(head.fields);
    let method = Method::from_bytes(head.method.as_bytes()).ok()?;
    let (path, query) = head.plain_target().filter(|_| ResponseForm::of(&fields) == ResponseForm::Problem)?;
    let version = Some(Version::HTTP_11);
    let view = RequestHead { method: &method, authority: None, path, query, version, fields: &fields };
    let mut exchange = Exchange::begin(Arc::clone(snapshot), &view, connection);
    exchange.authorize_now(&fields, connection)?.ok()?;
    let edits = exchange.request_edits(&fields, connection, upstream_host)?;
    let forwarded = request_head((head.method, edits.target), head.fields, head.length(), &edits.fields);
    let mut storage = FieldStorage::new();
    let (answer, _) = ResponseHead::parse(response, &mut storage, &method).ok()?;
    let edits = exchange.response_edits(answer.status, &HeadFields::new(answer.fields));
    let returned = response_head(&answer, &edits, false, (Instant::now(), 0));
    exchange.finish(ResponseInfo::new(answer.status.as_u16(), 0));
    Some((forwarded, returned))
}
