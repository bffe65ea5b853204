//! The first steps of a request: what can be done without waiting is done while its head is on the stack, parsed once.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Method, Response, Version};
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;

use super::request::{PlainRequest, Step};
use super::upload::Replay;
use crate::config::UpstreamProtocol;
use crate::gateway::forwarding::Forwarding;
use crate::gateway::http1::fields::HeadFields;
use crate::gateway::http1::head::{Head, ParsedHead};
use crate::gateway::http1::request_stream::{RequestStream, Shared};
use crate::gateway::request_state::ConnectionState;
use crate::gateway::upstream::RouteUpstream;
use crate::pipeline::{CurrentSnapshot, Exchange, Rejection, RequestHead, RequestPath, ResponseForm};

/// A request that was begun.
pub(in crate::gateway::http1) enum Begun<'f> {
    /// A plain one.
    Plain(Box<PlainRequest<'f>>),
    /// One for pingora.
    Proxy(Box<RequestStream>, Box<ConnectionState>),
}

/// What a request is begun with.
pub(in crate::gateway::http1) struct Received<'a> {
    /// The size of the head in bytes.
    pub(in crate::gateway::http1) size: usize,
    /// The connection of the client, and what was received after the head.
    pub(in crate::gateway::http1) connection: (Stream, BytesMut),
    pub(in crate::gateway::http1) shared: &'a Arc<Shared>,
    /// Whether the connection ends after the response.
    pub(in crate::gateway::http1) is_last: bool,
}

/// Begins a request whose head was received and parsed. `connector` is that of the fast path; without one, pingora gets every request.
pub(in crate::gateway::http1) fn begin<'f>(
    received: Received<'_>,
    head: &ParsedHead<'_, '_>,
    state: Box<ConnectionState>,
    snapshot: &CurrentSnapshot<RouteUpstream>,
    connector: Option<&'f TransportConnector>,
) -> Begun<'f> {
    let Received { size, connection: (stream, rest), shared, is_last } = received;
    let fields = HeadFields::new(head.fields);
    let plain = connector.and_then(|connector| {
        let method = Method::from_bytes(head.method.as_bytes()).ok()?;
        let (path, query) = head.plain_target().filter(|_| ResponseForm::of(&fields) == ResponseForm::Problem)?;
        Some((connector, method, path, query))
    });
    let Some((connector, method, path, query)) = plain else {
        let head = Head { bytes: head.serialize(size), body: head.body() };
        return Begun::Proxy(Box::new(RequestStream::new(stream, head, rest, shared)), state);
    };
    let body = head.body();
    // Everything is made in its place: moves of structures of this size show in profiles.
    let mut plain = Box::new(PlainRequest {
        connector,
        head: BytesMut::new(),
        step: Step::Select,
        method,
        request: Forwarding::on(state),
        client: RequestStream::new(stream, Head { bytes: Bytes::new(), body }, rest, shared),
        key: Vec::new(),
        replay: Replay::default(),
        closes: is_last || head.closes(),
    });
    let PlainRequest { method, request, .. } = &mut *plain;
    let view = RequestHead { method, authority: None, path, query, version: Some(Version::HTTP_11), fields: &fields };
    if request.begin(snapshot, &view, RequestPath::Fast).is_none_or(|(exchange, _)| !is_plain_route(exchange))
        && let Some(mut state) = request.connection.get_mut().take()
    {
        state.begun = request.exchange.take();
        let PlainRequest { mut client, .. } = *plain;
        client.set_head(head.serialize(size));
        return Begun::Proxy(Box::new(client), state);
    }
    let step = authorize_now(request, &view);
    plain.step = match step {
        Authorized::Response(response) => Step::Respond(response),
        Authorized::Pending => Step::Authorize,
        Authorized::Decided(outcome, arrived) => plain.decide(outcome, head, arrived),
    };
    Begun::Plain(plain)
}

/// How far the authorization is.
enum Authorized {
    Response(Response<Bytes>),
    Pending,
    /// The outcome for a request that arrived at this time.
    Decided(Result<(), Rejection>, Instant),
}

#[inline(never)] // See `poll_caught` of the connection.
fn authorize_now(request: &mut Forwarding, head: &RequestHead<'_, HeadFields<'_>>) -> Authorized {
    let (Some(exchange), Some(state)) = (&mut request.exchange, request.connection.get_mut()) else {
        return Authorized::Decided(Err(Rejection::InternalError), Instant::now());
    };
    if let Some(response) = exchange.preflight_response(head) {
        return Authorized::Response(response);
    }
    let arrived = exchange.arrived();
    let outcome = exchange.authorize_now(head.fields, &mut state.connection);
    outcome.map_or(Authorized::Pending, |outcome| Authorized::Decided(outcome, arrived))
}

/// Whether the upstream of the route, if it has one, uses HTTP/1.1.
fn is_plain_route(exchange: &Exchange<RouteUpstream>) -> bool {
    let upstream = exchange.route().and_then(|route| route.upstream.as_ref());
    upstream.is_none_or(|upstream| upstream.protocol == UpstreamProtocol::Http1)
}
