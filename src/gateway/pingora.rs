//! The pingora front: calls the steps of the pipeline from pingora's phases and moves the bytes.

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::body_limit::BodyLimit;
use super::context::Context;
use super::failure::{as_upstream_timeout, is_client_disconnect};
use super::forwarding::{Forwarding, unreachable_upstream};
use super::head_edits::{edit_request_head, edit_response_head};
use super::head_limits::check_head;
use super::request_state::{ConnectionState, multiplexed_limits};
use super::respond::{DRAIN_TIMEOUT, respond};
use super::stopping::announce_end;
use super::upstream::{RequestFacts, RouteUpstream};
use crate::pipeline::headers::{accepts_trailers, is_unasked_upgrade};
use crate::pipeline::{CurrentSnapshot, RequestHead, RequestPath, ResponseForm};

/// The front as pingora calls it.
pub(super) struct Proxy {
    pub(super) snapshot: Arc<CurrentSnapshot<RouteUpstream>>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// On the heap: pingora moves it together with its futures.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Self::CTX {
        Box::default()
    }

    /// No modules: bodies pass unchanged.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    fn persist_connection_context(&self, _: &Session, ctx: &Self::CTX) -> Option<Box<dyn Any + Send + Sync>> {
        ctx.request.connection.lock().take().map(|connection| connection as Box<dyn Any + Send + Sync>)
    }

    fn on_connection_reuse(&self, _: &mut Session, ctx: &mut Self::CTX, previous: Box<dyn Any + Send + Sync>) {
        *ctx.request.connection.get_mut() = previous.downcast().ok();
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<bool> {
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        ctx.request.connection.get_mut().get_or_insert_with(|| Box::new(ConnectionState::of_session(session)));
        let request = session.req_header();
        let head = RequestHead::new(&request.method, &request.uri, &request.headers).version(request.version);
        let Some((exchange, state)) = ctx.request.begin(&self.snapshot, &head, RequestPath::Proxy) else {
            return Ok(false);
        };
        let refused = multiplexed_limits(session).and_then(|limits| check_head(request, limits));
        let authorized = match refused {
            Some(rejection) => Err(rejection),
            None => match exchange.preflight_response(&head) {
                Some(response) => {
                    respond(session, response).await?;
                    return Ok(true);
                }
                // Most requests need nothing from elsewhere. The future of the other ones is large, so it is made only for them.
                None => match exchange.authorize_now(&request.headers, &mut state.connection) {
                    Some(outcome) => outcome,
                    None => exchange.authorize(&request.headers, &mut state.connection).await,
                },
            },
        };
        let response = match ctx.request.own_response(authorized, &request.headers) {
            Some(response) => Some(response),
            None => ctx.select_first(&request.headers).await,
        };
        let Some(response) = response else { return Ok(false) };
        respond(session, response).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        let upstream = ctx.select_next(&session.req_header().headers).await?;
        let mut peer = ctx.request.call.peer().ok_or_else(unreachable_upstream)?;
        ctx.begin_attempt(session, &upstream, &mut peer);
        Ok(peer)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Self::CTX, mut error: Box<Error>) -> Box<Error> {
        error.set_retry(ctx.request.call.connect_failed(&error));
        error
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        is_reused: bool,
        _: &HttpPeer,
        _: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        let tls = digest.and_then(|digest| digest.ssl_digest.as_deref());
        ctx.request.call.connected(is_reused, tls)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Self::CTX,
        _: bool,
    ) -> Box<Error> {
        ctx.restore_session(session);
        let error = as_upstream_timeout(error);
        let facts = RequestFacts {
            is_idempotent: session.req_header().method.is_idempotent(),
            is_replayable: !session.as_downstream().retry_buffer_truncated(),
        };
        let is_retried = ctx.request.call.failed(&error, facts);
        let mut error = error.more_context(format!("Peer: {peer}"));
        error.set_retry(is_retried);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        let host = ctx.request.call.address().authority.clone();
        let Forwarding { exchange, connection, .. } = &mut ctx.request;
        let (Some(exchange), Some(state)) = (exchange, connection.get_mut()) else {
            return Err(unreachable_upstream());
        };
        ctx.body_limit = BodyLimit::new(exchange.max_body());
        let fields = &session.req_header().headers;
        let edits = exchange.request_edits(fields, &mut state.connection, host);
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
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        ctx.request.call.answered(response.status, Instant::now());
        if is_unasked_upgrade(&session.req_header().headers, response.status) {
            let error = Error::explain(ErrorType::InvalidHTTPHeader, "the upstream switched protocols unasked");
            return Err(error.into_up());
        }
        if !has_valid_coding(response) {
            let error =
                Error::explain(ErrorType::InvalidHTTPHeader, "the transfer coding of the response is not chunked");
            return Err(error.into_up());
        }
        let status = response.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // What follows is no request body.
            ctx.body_limit = BodyLimit::default();
        }
        let Forwarding { exchange, connection, call, .. } = &mut ctx.request;
        let (Some(exchange), Some(state)) = (exchange, connection.get_mut()) else { return Ok(()) };
        let upstream = call.address();
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
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        let length = body.as_ref().map_or(0, Bytes::len);
        if is_last && length == 0 {
            // As an empty part, which is how an HTTP/2 body may end, pingora would write the last chunk twice. The upstream would read the
            // second one as a part of the next request.
            *body = None;
        }
        if let Some(progress) = ctx.request.progress() {
            progress.add_body(length, is_last);
        }
        if let Some((supervision, _, progress)) = ctx.request.supervised() {
            supervision.pass_request(is_last, progress);
        }
        ctx.body_limit.take(length)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        if response.status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6.
            response.remove_header(&CONTENT_LENGTH);
        }
        if session.req_header().version == Version::HTTP_10 && response.headers.contains_key(TRANSFER_ENCODING) {
            // A client of HTTP/1.0 does not know chunks: the end of the connection is the end of the body.
            response.remove_header(&TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            ctx.is_continued = true;
            return Ok(());
        }
        if let Some((supervision, exchange, progress)) = ctx.request.supervised() {
            let has_frames = session.req_header().version != Version::HTTP_2;
            supervision.begin_response((response.status, &response.headers), has_frames, exchange, progress)?;
        }
        let is_last = is_bodiless(&session.req_header().method, response);
        let Some(progress) = ctx.request.progress() else { return Ok(()) };
        progress.set_answered();
        if is_last {
            progress.set_last_part();
        }
        let is_body_complete = progress.is_body_complete();
        if ctx.is_continued && is_body_complete && session.req_header().version == Version::HTTP_11 {
            // pingora gives up the connection at an interim response, because the body has not arrived by then.
            session.set_keepalive(Some(0));
        }
        announce_end(session);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Option<Duration>> {
        if let Some((supervision, _, progress)) = ctx.request.supervised() {
            supervision.pass_response(body.as_ref().map_or(0, Bytes::len), progress);
        }
        if is_last {
            ctx.request.call.completed(Instant::now());
            if let Some(progress) = ctx.request.progress() {
                progress.set_last_part();
            }
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        let request = session.req_header();
        ctx.request.log_fault(error, request.method.as_str(), request.uri.path());
        if session.response_written().is_some() {
            ctx.request.end_reason = ctx.request.supervision.end_reason(error);
        }
        // A response that was begun cannot be replaced; the client sees the end of the connection.
        if is_client_disconnect(error) || session.response_written().is_some() {
            ctx.request.is_truncated = !is_client_disconnect(error);
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let response = ctx.request.reject(error, ResponseForm::of(&session.req_header().headers));
        let status = response.status().as_u16();
        // pingora closes the client's connection after an upstream failure, so the response says so.
        session.set_keepalive(None);
        if let Err(error) = respond(session, response).await {
            tracing::debug!(%error, "the client closed the connection before the response was sent");
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Self::CTX) {
        ctx.restore_session(session);
        let status = session.response_written().map(|response| response.status.as_u16());
        // Unlike `Progress`, this does not count the body again that a retry sends.
        let bytes_received = session.as_downstream().body_bytes_read() as u64;
        ctx.request.finish((status, session.body_bytes_sent()), bytes_received);
    }

    /// pingora logs parts of what it could not read. `fail_to_proxy` logs failures.
    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Self::CTX, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}

/// Whether a response ends with its head.
fn is_bodiless(method: &Method, response: &ResponseHeader) -> bool {
    let is_empty = || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
    let has_none = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !response.status.is_informational() && (method == Method::HEAD || has_none || is_empty())
}

/// Whether a response has no transfer coding, or `chunked` once. pingora reads other codings as bodies that end with the connection, and
/// passes them on, so that a client could read the body in another way.
fn has_valid_coding(response: &ResponseHeader) -> bool {
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => {
            response.version == Version::HTTP_11 && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => false,
    }
}
