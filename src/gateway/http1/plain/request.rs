//! A plain request in progress, and the steps that need its head.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Method, Response};
use pingora::connectors::TransportConnector;

use super::upload::Replay;
use super::write_head::request_head;
use crate::config::ListenerLimits;
use crate::gateway::forwarding::{Forwarding, unreachable_upstream};
use crate::gateway::http1::error::HeadError;
use crate::gateway::http1::fields::{FieldStorage, HeadFields};
use crate::gateway::http1::head::ParsedHead;
use crate::gateway::http1::request_stream::RequestStream;
use crate::pipeline::Rejection;

/// A plain request in progress.
pub(in crate::gateway::http1) struct PlainRequest<'f> {
    pub(super) connector: &'f TransportConnector,
    /// The bytes of the request head.
    pub(in crate::gateway::http1) head: BytesMut,
    /// What happens next.
    pub(super) step: Step,
    pub(super) method: Method,
    // Dropped before the stream, which gives back the connection.
    pub(super) request: Forwarding,
    pub(super) client: RequestStream,
    /// What a consistent hash is made from.
    pub(super) key: Vec<u8>,
    pub(super) replay: Replay,
    /// Whether the connection of the client ends after the response.
    pub(super) closes: bool,
}

/// What happens next to a plain request.
pub(in crate::gateway::http1) enum Step {
    /// Keygate responds.
    Respond(Response<Bytes>),
    /// A record is looked up, or the request is counted elsewhere.
    Authorize,
    /// An endpoint is selected, which may take a while.
    Select,
    /// The head is sent to the endpoint that was selected.
    Send(BytesMut),
}

impl PlainRequest<'_> {
    /// The response that Keygate makes itself, if that is what happens next.
    pub(super) fn take_response(&mut self) -> Option<Response<Bytes>> {
        match std::mem::replace(&mut self.step, Step::Select) {
            Step::Respond(response) => Some(response),
            step => {
                self.step = step;
                None
            }
        }
    }

    /// The head for the endpoint that was selected, if it is written.
    pub(super) fn take_head(&mut self) -> Option<BytesMut> {
        match std::mem::replace(&mut self.step, Step::Select) {
            Step::Send(head) => Some(head),
            _ => None,
        }
    }

    /// What happens next to a request with this outcome of its authorization. `now` is the time of the outcome; a few microseconds do not
    /// matter.
    pub(super) fn decide(
        &mut self,
        authorized: Result<(), Rejection>,
        head: &ParsedHead<'_, '_>,
        now: Instant,
    ) -> Step {
        let fields = HeadFields::new(head.fields);
        if let Some(response) = self.request.own_response(authorized, &fields) {
            return Step::Respond(response);
        }
        let (Ok(upstream), Some(exchange)) = (self.request.upstream(), &self.request.exchange) else {
            return Step::Select;
        };
        self.key = upstream.hash_key(exchange, &fields);
        if !self.request.call.select_now(&upstream, &self.key, now) {
            return Step::Select;
        }
        self.write_head(head).map_or(Step::Select, Step::Send)
    }

    /// The head of the request for the endpoint that was selected.
    ///
    /// # Errors
    /// If the request is not authorized.
    pub(super) fn write_head(&mut self, head: &ParsedHead<'_, '_>) -> pingora::Result<BytesMut> {
        let fields = HeadFields::new(head.fields);
        self.request.begin_attempt(&fields);
        let Forwarding { exchange, connection, call, .. } = &mut self.request;
        let (Some(exchange), Some(state)) = (exchange, connection.get_mut()) else {
            return Err(unreachable_upstream());
        };
        let host = call.address().authority.clone();
        let edits = exchange.request_edits(&fields, &mut state.connection, host).ok_or_else(unreachable_upstream)?;
        Ok(request_head((head.method, edits.target), head.fields, head.length(), &edits.fields))
    }
}

/// Parses a head that was parsed before. Its fields are not on the stack of the caller, which rarely needs them.
#[inline(never)]
pub(super) fn parse<T>(
    bytes: &[u8],
    limits: &ListenerLimits,
    read: impl FnOnce(&ParsedHead<'_, '_>) -> T,
) -> Result<T, HeadError> {
    let mut storage = FieldStorage::new();
    ParsedHead::parse(bytes, &mut storage, limits).map(|head| read(&head))
}
