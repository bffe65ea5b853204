//! The pingora front: calls the steps of the pipeline from pingora's phases and moves the bytes.

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::body_limit::BodyLimit;
use super::failure::{as_upstream_timeout, fault, is_client_disconnect, rejection};
use super::head_edits::{edit_request_head, edit_response_head};
use super::head_limits::check_head;
use super::request_state::{ConnectionState, Progress, multiplexed_limits};
use super::respond::respond;
use super::supervision::Supervision;
use super::timed_session::SessionPlace;
use super::upgrade_socket::ResponseGate;
use super::upstream::{RequestFacts, Upstream, UpstreamCall};
use crate::config::UpstreamProtocol;
use crate::id::RequestId;
use crate::pipeline::headers::{accepts_trailers, is_unasked_upgrade, requests_upgrade};
use crate::pipeline::live_streams::EndReason;
use crate::pipeline::{CurrentSnapshot, Exchange, Rejection, RequestHead, ResponseInfo};
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::problem::{ResponseForm, rejection_response};

/// Time limit for draining the body of a rejected request.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What a snapshot keeps for the upstream of a route; `None` for an upstream that the configuration does not define.
pub(super) type RouteUpstream = Option<Arc<Upstream>>;

/// The front as pingora calls it.
pub(super) struct Proxy {
    pub(super) snapshot: Arc<CurrentSnapshot<RouteUpstream>>,
}

/// The state of one request.
pub(super) struct Context {
    exchange: Option<Exchange<RouteUpstream>>,
    /// The attempts at the upstream.
    call: UpstreamCall,
    /// Why the upstream got no further attempt.
    rejection: Option<Rejection>,
    body_limit: BodyLimit,
    /// Whether an interim response was passed on.
    is_continued: bool,
    /// The timeouts, and what was sent.
    supervision: Supervision,
    /// Why the response was broken off.
    end_reason: Option<EndReason>,
    /// Set if the request upgrades the connection to its upstream.
    gate: Option<Arc<ResponseGate>>,
    /// Set while a request over HTTP/2 is forwarded.
    session_place: Option<SessionPlace>,
    /// Whether the response broke off.
    is_truncated: bool,
    /// Behind a lock, because pingora gives out the context by shared reference when it collects the state of the connection.
    connection: Mutex<Option<Box<ConnectionState>>>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            exchange: None,
            call: UpstreamCall::default(),
            rejection: None,
            body_limit: BodyLimit::default(),
            is_continued: false,
            supervision: Supervision::default(),
            end_reason: None,
            gate: None,
            session_place: None,
            is_truncated: false,
            connection: Mutex::new(None),
        }
    }

    /// No modules: bodies pass unchanged.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    fn persist_connection_context(&self, _: &Session, ctx: &Context) -> Option<Box<dyn Any + Send + Sync>> {
        ctx.connection.lock().take().map(|connection| connection as Box<dyn Any + Send + Sync>)
    }

    fn on_connection_reuse(&self, _: &mut Session, ctx: &mut Context, previous: Box<dyn Any + Send + Sync>) {
        *ctx.connection.get_mut() = previous.downcast().ok();
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        let state = ctx.connection.get_mut().get_or_insert_with(|| ConnectionState::of_session(session));
        let connection = &mut state.connection;
        let request = session.req_header();
        let head = RequestHead::new(&request.method, &request.uri, &request.headers).version(request.version);
        let exchange = ctx.exchange.insert(Exchange::begin(self.snapshot.load_full(), &head, connection));
        let refused = multiplexed_limits(session).and_then(|limits| check_head(request, limits));
        let outcome = match refused {
            Some(rejection) => Err(rejection),
            None => match exchange.preflight_response(&head) {
                Some(response) => {
                    respond(session, response).await?;
                    return Ok(true);
                }
                // Most requests need nothing from elsewhere. The future of the other ones is large, so it is made only for them.
                None => match exchange.authorize_now(&request.headers, connection) {
                    Some(outcome) => outcome,
                    None => exchange.authorize(&request.headers, connection).await,
                },
            },
        };
        let outcome = outcome.and_then(|()| exchange.check_body_size(&request.headers));
        let response = match outcome {
            Ok(()) => match exchange.own_response(connection) {
                Some(response) => response,
                None => return Ok(false),
            },
            Err(rejection) => exchange.reject(&rejection, ResponseForm::of(&request.headers)),
        };
        respond(session, response).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        let exchange = ctx.exchange.as_ref().ok_or_else(unreachable_upstream)?;
        let upstream = exchange.route().and_then(|route| route.upstream.as_ref()).ok_or_else(unreachable_upstream)?;
        let key = upstream.hash_key(exchange, &session.req_header().headers);
        let mut peer = ctx.call.next_peer(upstream, &key).await.map_err(|rejection| {
            ctx.rejection = Some(rejection);
            unreachable_upstream()
        })?;
        ctx.begin_attempt(session, &mut peer);
        Ok(peer)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        error.set_retry(ctx.call.connect_failed(&error));
        error
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        is_reused: bool,
        _: &HttpPeer,
        _: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        ctx.call.connected(is_reused, digest)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        _: bool,
    ) -> Box<Error> {
        ctx.restore_session(session);
        let error = as_upstream_timeout(error);
        let facts = RequestFacts {
            is_idempotent: session.req_header().method.is_idempotent(),
            is_replayable: !session.as_downstream().retry_buffer_truncated(),
        };
        let is_retried = ctx.call.failed(&error, facts);
        let mut error = error.more_context(format!("Peer: {peer}"));
        error.set_retry(is_retried);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let host = ctx.call.address().authority.clone();
        let state = ctx.connection.get_mut().get_or_insert_with(|| ConnectionState::of_session(session));
        let exchange = ctx.exchange.as_ref();
        ctx.body_limit = BodyLimit::new(exchange.and_then(Exchange::max_body));
        let fields = &session.req_header().headers;
        let edits = exchange.and_then(|exchange| exchange.request_edits(fields, &mut state.connection, host));
        let mut edits = edits.ok_or_else(unreachable_upstream)?;
        // Hop-by-hop, but the only form in which HTTP/2 allows it, and gRPC servers require it (RFC 9113 section 8.2.2).
        let accepts_trailers = request.version == Version::HTTP_2 && accepts_trailers(fields);
        edit_request_head(request, edits.target, |fields| {
            edits.fields.apply(fields);
            if accepts_trailers {
                fields.insert(TE, HeaderValue::from_static("trailers"));
            }
        })?;
        ctx.begin_request(session)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        ctx.call.answered(response.status);
        if is_unasked_upgrade(&session.req_header().headers, response.status) {
            let error = Error::explain(ErrorType::InvalidHTTPHeader, "the upstream switched protocols unasked");
            return Err(error.into_up());
        }
        let status = response.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // What follows is no request body.
            ctx.body_limit = BodyLimit::default();
        }
        let Some(exchange) = &ctx.exchange else { return Ok(()) };
        let state = ctx.connection.get_mut().get_or_insert_with(|| ConnectionState::of_session(session));
        let upstream = ctx.call.address();
        let received = &session.req_header().headers;
        edit_response_head(response, |fields| {
            let mut edits = exchange.response_edits(status, fields);
            exchange.add_route_edits(&mut edits, (status, fields), received, &state.connection, upstream);
            edits.apply(fields);
        })
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let length = body.as_ref().map_or(0, Bytes::len);
        if is_last && length == 0 {
            // As an empty part, which is how an HTTP/2 body may end, pingora would write the last chunk twice. The upstream would read the
            // second one as a part of the next request.
            *body = None;
        }
        if let Some(progress) = ctx.progress() {
            progress.add_body(length, is_last);
        }
        if let Some((supervision, _, progress)) = ctx.supervised() {
            supervision.pass_request(is_last, progress);
        }
        ctx.body_limit.take(length)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if session.req_header().version == Version::HTTP_10 && response.headers.contains_key(TRANSFER_ENCODING) {
            // A client of HTTP/1.0 does not know chunks: the end of the connection is the end of the body.
            response.remove_header(&TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            ctx.is_continued = true;
            return Ok(());
        }
        if let Some((supervision, exchange, progress)) = ctx.supervised() {
            supervision.begin_response(session.req_header(), response, exchange, progress)?;
        }
        let is_last = is_bodiless(&session.req_header().method, response);
        let Some(progress) = ctx.progress() else { return Ok(()) };
        progress.set_answered();
        if is_last {
            progress.set_last_part();
        }
        let is_body_complete = progress.is_body_complete();
        if ctx.is_continued && is_body_complete && session.req_header().version == Version::HTTP_11 {
            // pingora gives up the connection at an interim response, because the body has not arrived by then.
            session.set_keepalive(Some(0));
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        ctx: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        if let Some((supervision, _, progress)) = ctx.supervised() {
            supervision.pass_response(body.as_ref().map_or(0, Bytes::len), progress);
        }
        if is_last {
            ctx.call.completed();
            if let Some(progress) = ctx.progress() {
                progress.set_last_part();
            }
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        if ctx.rejection != Some(Rejection::UpstreamOverloaded)
            && let Some(fault) = fault(error)
        {
            ctx.log_fault(session, &fault);
        }
        if session.response_written().is_some() {
            ctx.end_reason = ctx.supervision.end_reason(error);
        }
        // A response that was begun cannot be replaced; the client sees the end of the connection.
        if is_client_disconnect(error) || session.response_written().is_some() {
            ctx.is_truncated = !is_client_disconnect(error);
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let rejection = ctx.rejection.take().unwrap_or_else(|| rejection(error));
        let form = ResponseForm::of(&session.req_header().headers);
        let response = match &mut ctx.exchange {
            Some(exchange) => exchange.reject(&rejection, form),
            None => rejection_response(&rejection, &RequestId::random(), form, CredentialLocations::standard()),
        };
        let status = response.status().as_u16();
        // pingora closes the client's connection after an upstream failure, so the response says so.
        session.set_keepalive(None);
        if let Err(error) = respond(session, response).await {
            tracing::debug!(%error, "the client closed the connection before the response was sent");
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Context) {
        ctx.restore_session(session);
        let response = ResponseInfo {
            status: session.response_written().map(|response| response.status.as_u16()),
            bytes: session.body_bytes_sent(),
            // Unlike `Progress`, this does not count the body again that a retry sends.
            bytes_received: session.as_downstream().body_bytes_read() as u64,
            ..ctx.response_info()
        };
        let Some(exchange) = ctx.exchange.take() else { return };
        match ctx.end_reason {
            Some(reason) => exchange.end(reason, response),
            None => exchange.finish(response),
        }
    }

    /// pingora logs parts of what it could not read. `fail_to_proxy` logs failures.
    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Context, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}

impl Context {
    /// Logs a failure of the upstream; the path is without the query, which may contain secrets.
    fn log_fault(&self, session: &Session, fault: &str) {
        let request = session.req_header();
        tracing::error!(
            request_id = self.exchange.as_ref().map(|exchange| exchange.request_id().as_str()),
            method = request.method.as_str(),
            path = request.uri.path(),
            route = self.exchange.as_ref().and_then(Exchange::route).map(|route| &*route.name),
            trace_id = self.exchange.as_ref().and_then(Exchange::trace_id).map(tracing::field::display),
            "the request could not be proxied: {fault}"
        );
    }

    /// What is known of the request besides the response that was sent.
    fn response_info(&mut self) -> ResponseInfo {
        ResponseInfo {
            bytes_received: self.progress().map(Progress::body_bytes).unwrap_or_default(),
            is_truncated: self.is_truncated,
            upstream: self.call.info(),
            ..ResponseInfo::default()
        }
    }

    /// What an exchange that is forwarded is limited by.
    fn supervised(&mut self) -> Option<(&mut Supervision, &mut Exchange<RouteUpstream>, &Arc<Progress>)> {
        let progress = &self.connection.get_mut().as_ref()?.progress;
        Some((&mut self.supervision, self.exchange.as_mut()?, progress))
    }

    /// Sets the timeouts of an attempt, and prepares a connection for an upgrade.
    fn begin_attempt(&mut self, session: &Session, peer: &mut HttpPeer) {
        let request = session.req_header();
        let Some((supervision, exchange, progress)) = self.supervised() else { return };
        let Some(route) = exchange.route() else { return };
        let Some(upstream) = &route.upstream else { return };
        let is_upgrade = upstream.protocol != UpstreamProtocol::Http2
            && request.version == Version::HTTP_11
            && requests_upgrade(&request.headers);
        let timeouts = upstream.timeouts.on_route(&route.timeouts);
        supervision.begin_attempt(timeouts, request, exchange, progress, peer);
        self.gate = is_upgrade.then(|| ResponseGate::of_peer(peer));
    }

    /// Begins to send the request of an attempt.
    fn begin_request(&mut self, session: &mut Session) -> pingora::Result<()> {
        let is_body_empty = session.is_body_empty();
        if let Some(gate) = self.gate.as_ref().filter(|_| is_body_empty) {
            gate.close();
        }
        let Some((supervision, exchange, progress)) = self.supervised() else { return Ok(()) };
        supervision.begin_request(is_body_empty, exchange, progress)?;
        if !supervision.is_grpc() {
            self.session_place = SessionPlace::take(&mut session.downstream_session, progress);
        }
        Ok(())
    }

    /// Puts pingora's session in its place again.
    fn restore_session(&mut self, session: &mut Session) {
        if let Some(place) = self.session_place.take() {
            place.restore(&mut session.downstream_session);
        }
    }

    fn progress(&mut self) -> Option<&Progress> {
        Some(&*self.connection.get_mut().as_ref()?.progress)
    }
}

impl Drop for Context {
    /// Logs a request that was aborted: because its body arrived too slowly, or because it was ended from outside.
    fn drop(&mut self) {
        let Some(progress) = self.progress() else { return };
        let (is_timed_out, end_reason) = (progress.is_timed_out(), progress.ending.reason());
        if !is_timed_out && end_reason.is_none() {
            return;
        }
        self.is_truncated |= end_reason.is_some_and(|reason| !reason.is_denial());
        if end_reason == Some(EndReason::ReadTimeout) && self.supervision.is_request_complete {
            self.call.fell_silent();
        }
        let (status, bytes) = (self.supervision.status, self.supervision.sent);
        let response = ResponseInfo { status, bytes, ..self.response_info() };
        let Some(mut exchange) = self.exchange.take() else { return };
        if let Some(reason) = end_reason {
            return exchange.end(reason, response);
        }
        let timeout = exchange.reject(&Rejection::RequestTimeout, ResponseForm::Problem);
        exchange.finish(ResponseInfo { status: Some(timeout.status().as_u16()), ..response });
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
fn unreachable_upstream() -> Box<Error> {
    Error::new_up(ErrorType::ConnectError)
}

/// Whether a response ends with its head.
fn is_bodiless(method: &Method, response: &ResponseHeader) -> bool {
    let is_empty = || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
    let has_none = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !response.status.is_informational() && (method == Method::HEAD || has_none || is_empty())
}
