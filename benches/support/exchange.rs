//! Whole exchanges: everything that the gateway does for a request and its response, except network I/O.

use std::hint::black_box;

use http::HeaderMap;
use keygate::gateway::exchange_heads;
use keygate::gateway::head_edits::{edit_request_head, edit_response_head};
use keygate::pipeline::{Connection, Exchange, ResponseForm, ResponseInfo, Snapshot};
use pingora::http::{RequestHeader, ResponseHeader};
use std::sync::Arc;

use super::parts::{Credential, PEER, Parts, poll_once};
use super::request::{Request, UPSTREAM_HOST, pingora_request, pingora_response};

/// A client that repeats one request. The gateway uses its fast path.
pub(super) struct FastClient {
    snapshot: Arc<Snapshot>,
    request: Vec<u8>,
    response: Vec<u8>,
    connection: Connection,
}

impl FastClient {
    /// A client that sends a key on one connection.
    pub(super) fn new() -> Self {
        let parts = Parts::new();
        let (request, response) = (pingora_request(&parts.credential(Credential::Key)), pingora_response());
        let mut request_bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.uri).into_bytes();
        write_fields(&mut request_bytes, &request.headers);
        let mut response_bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        write_fields(&mut response_bytes, &response.headers);
        Self {
            snapshot: Arc::clone(parts.snapshot()),
            request: request_bytes,
            response: response_bytes,
            connection: Connection::new(Some(PEER)),
        }
    }

    /// Runs one exchange. Returns whether the request was forwarded.
    pub(super) fn send(&mut self) -> bool {
        let messages = (&self.request[..], &self.response[..]);
        black_box(exchange_heads(&self.snapshot, &mut self.connection, messages, UPSTREAM_HOST)).is_some()
    }
}

/// Appends the fields and the empty line that ends a message head.
fn write_fields(bytes: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
}

/// A client that repeats one request. The gateway uses the path through pingora.
pub(super) struct Client {
    snapshot: Arc<Snapshot>,
    request: Request,
    forwarded: RequestHeader,
    response: ResponseHeader,
    connection: Connection,
    /// Whether all requests use one connection.
    keep_alive: bool,
}

impl Client {
    /// A client that sends a credential of this kind. Without `keep_alive`, every request has a new connection.
    pub(super) fn new(kind: Credential, keep_alive: bool) -> Self {
        let parts = Parts::new();
        let credential = parts.credential(kind);
        Self {
            snapshot: Arc::clone(parts.snapshot()),
            request: Request::new(Some(&credential)),
            forwarded: pingora_request(&credential),
            response: pingora_response(),
            connection: Connection::new(Some(PEER)),
            keep_alive,
        }
    }

    /// Runs one exchange. Returns the status that the client receives.
    pub(super) fn send(&mut self) -> u16 {
        if !self.keep_alive {
            self.connection = Connection::new(Some(PEER));
        }
        let (head, connection) = (self.request.head(), &mut self.connection);
        let mut exchange = Exchange::begin(Arc::clone(&self.snapshot), &head, connection);
        let authorized = exchange
            .authorize_now(head.fields, connection)
            .unwrap_or_else(|| poll_once(exchange.authorize(head.fields, connection)));
        let status = match authorized {
            Ok(()) => {
                let mut forwarded = self.forwarded.clone();
                let edits = exchange.request_edits(&self.forwarded.headers, connection, UPSTREAM_HOST);
                let mut edits = edits.expect("the request is authorized");
                edit_request_head(&mut forwarded, edits.target, |fields| edits.fields.apply(fields))
                    .expect("the target is valid");
                let mut response = self.response.clone();
                let status = response.status;
                edit_response_head(&mut response, |fields| exchange.response_edits(status, fields).apply(fields))
                    .expect("the response has no custom reason phrase");
                black_box((forwarded, response)).1.status.as_u16()
            }
            Err(rejection) => black_box(exchange.reject(&rejection, ResponseForm::default())).status().as_u16(),
        };
        exchange.finish(ResponseInfo::new(status, 1024));
        status
    }
}
