//! Everything that the gateway does for a request and its response, besides moving bytes.

use std::hint::black_box;

use http::HeaderMap;
use keygate::gateway::exchange_heads;
use keygate::gateway::head_edits::{edit_request_head, edit_response_head};
use keygate::pipeline::{Connection, Exchange, ResponseForm, ResponseInfo, Snapshot};
use pingora::http::{RequestHeader, ResponseHeader};
use std::sync::Arc;

use super::parts::{Credential, PEER, Parts, poll_once};
use super::request::{Request, UPSTREAM_HOST, to_forward, to_send_back};

/// A client that sends the same request again and again, over the fast path.
pub(super) struct FastClient {
    snapshot: Arc<Snapshot>,
    request: Vec<u8>,
    response: Vec<u8>,
    connection: Connection,
}

impl FastClient {
    /// A client with a key, on one connection.
    pub(super) fn new() -> Self {
        let parts = Parts::new();
        let (request, response) = (to_forward(&parts.credential(Credential::Key)), to_send_back());
        let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.uri).into_bytes();
        put_fields(&mut bytes, &request.headers);
        let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
        put_fields(&mut answer, &response.headers);
        Self {
            snapshot: Arc::clone(parts.snapshot()),
            request: bytes,
            response: answer,
            connection: Connection::new(Some(PEER)),
        }
    }

    /// One exchange; returns whether it was forwarded.
    pub(super) fn send(&mut self) -> bool {
        let messages = (&self.request[..], &self.response[..]);
        black_box(exchange_heads(&self.snapshot, &mut self.connection, messages, UPSTREAM_HOST)).is_some()
    }
}

fn put_fields(bytes: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
}

/// A client that sends the same request again and again.
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
    /// A client with one credential.
    pub(super) fn new(kind: Credential, keep_alive: bool) -> Self {
        let parts = Parts::new();
        let credential = parts.credential(kind);
        Self {
            snapshot: Arc::clone(parts.snapshot()),
            request: Request::new(Some(&credential)),
            forwarded: to_forward(&credential),
            response: to_send_back(),
            connection: Connection::new(Some(PEER)),
            keep_alive,
        }
    }

    /// One exchange; returns the status that the client gets.
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
                    .expect("the target is one");
                let mut response = self.response.clone();
                let status = response.status;
                edit_response_head(&mut response, |fields| exchange.response_edits(status, fields).apply(fields))
                    .expect("there is no reason phrase to keep");
                black_box((forwarded, response)).1.status.as_u16()
            }
            Err(rejection) => black_box(exchange.reject(&rejection, ResponseForm::default())).status().as_u16(),
        };
        exchange.finish(ResponseInfo::new(status, 1024));
        status
    }
}
