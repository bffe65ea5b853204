//! The pingora front: calls the steps of the pipeline from pingora's phases and moves the bytes.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::TcpKeepalive;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::head_edits::{edit_request_head, edit_response_head};
use super::head_limits::check_head;
use super::request_state::{ConnectionState, Progress, multiplexed_limits};
use super::respond::respond;
use super::upstream::{Endpoint, Upstream};
use crate::config::UpstreamProtocol;
use crate::id::RequestId;
use crate::pipeline::headers::is_unasked_upgrade;
use crate::pipeline::{CurrentSnapshot, Exchange, Rejection, RequestHead, ResponseInfo};
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::problem::{ResponseForm, rejection_response};

/// Time limit for draining the body of a rejected request.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// The group of pooled connections of the next request that is sent once more. Each group is used once: a connection stays in its group for a
/// moment even without idle time, and the next repeated request could find it.
static FRESH: AtomicU64 = AtomicU64::new(1);
/// TCP keep-alive of idle upstream connections. It detects dead peers, so that no idle timer of ours is needed, which would cost every
/// request.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// How many requests use an HTTP/2 connection to an upstream at the same time.
const UPSTREAM_STREAMS: usize = 100;

/// What a snapshot keeps for the upstream of a route; `None` for an upstream that the configuration does not define.
pub(super) type RouteUpstream = Option<Arc<Upstream>>;

/// The front as pingora calls it.
pub(super) struct Proxy {
    pub(super) snapshot: Arc<CurrentSnapshot<RouteUpstream>>,
}

/// The state of one request.
pub(super) struct Context {
    exchange: Option<Exchange<RouteUpstream>>,
    /// The `Host` of the endpoint that the request is sent to.
    upstream_host: Option<HeaderValue>,
    /// Failed connection attempts.
    attempts: usize,
    /// Whether the request is sent once more because the pooled connection was closed.
    is_repeated: bool,
    /// Whether an interim response was passed on.
    is_continued: bool,
    /// Behind a lock, because pingora gives out the context by shared reference when it collects the state of the connection.
    connection: Mutex<Option<Box<ConnectionState>>>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            exchange: None,
            upstream_host: None,
            attempts: 0,
            is_repeated: false,
            is_continued: false,
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
        let head = RequestHead::new(&request.method, &request.uri, &request.headers);
        let exchange = ctx.exchange.insert(Exchange::begin(self.snapshot.load_full(), &head, connection));
        let refused = multiplexed_limits(session).and_then(|limits| check_head(request, limits));
        let outcome = match refused {
            Some(rejection) => Err(rejection),
            None => match exchange.preflight_response(&head) {
                Some(response) => {
                    respond(session, response).await?;
                    return Ok(true);
                }
                None => exchange.authorize(&request.headers, connection).await,
            },
        };
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

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        let upstream = ctx.upstream().ok_or_else(unreachable_upstream)?;
        let endpoint = upstream.next().ok_or_else(unreachable_upstream)?;
        let address = endpoint.address().await.map_err(|_| unreachable_upstream())?;
        let (mut peer, host) = (new_peer(address, endpoint, upstream), endpoint.host_value().clone());
        if ctx.is_repeated {
            peer.group_key = FRESH.fetch_add(1, Ordering::Relaxed);
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
        ctx.upstream_host = Some(host);
        Ok(Box::new(peer))
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        // Nothing was sent yet, so the request may be retried on another endpoint whatever its method is.
        ctx.attempts += 1;
        error.set_retry(ctx.upstream().is_some_and(|upstream| ctx.attempts < upstream.len()));
        error
    }

    /// A request on a pooled connection that turns out closed is sent once more, on a fresh one, if that has no effect twice: a safe method
    /// without a body.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        is_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let is_repeatable = session.req_header().method.is_safe() && session.is_body_empty() && !ctx.is_repeated;
        if is_repeatable {
            error.retry.decide_reuse(is_reused);
        } else {
            error.set_retry(false);
        }
        ctx.is_repeated = error.retry();
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let host = ctx.upstream_host.clone().unwrap_or_else(|| HeaderValue::from_static(""));
        let state = ctx.connection.get_mut().get_or_insert_with(|| ConnectionState::of_session(session));
        let exchange = ctx.exchange.as_ref();
        let fields = &session.req_header().headers;
        let edits = exchange.and_then(|exchange| exchange.request_edits(fields, &mut state.connection, host));
        let mut edits = edits.ok_or_else(unreachable_upstream)?;
        edit_request_head(request, edits.target, |fields| edits.fields.apply(fields))
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if is_unasked_upgrade(&session.req_header().headers, response.status) {
            let error = Error::explain(ErrorType::InvalidHTTPHeader, "the upstream switched protocols unasked");
            return Err(error.into_up());
        }
        if let Some(exchange) = &ctx.exchange {
            let status = response.status;
            edit_response_head(response, |fields| exchange.response_edits(status, fields).apply(fields))?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if let Some(progress) = ctx.progress() {
            progress.add_body(body.as_ref().map_or(0, Bytes::len), is_last);
        }
        Ok(())
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
        if response.status.is_informational() {
            ctx.is_continued = true;
            return Ok(());
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
        _: &mut Option<Bytes>,
        is_last: bool,
        ctx: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        if is_last && let Some(progress) = ctx.progress() {
            progress.set_last_part();
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        // A response that was begun cannot be replaced; the client sees the end of the connection.
        if is_client_disconnect(error) || session.response_written().is_some() {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let rejection = rejection(error);
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
        if let Some(exchange) = ctx.exchange.take() {
            exchange.finish(ResponseInfo {
                status: session.response_written().map(|response| response.status.as_u16()),
                bytes: session.body_bytes_sent(),
            });
        }
    }

    /// Clients that disconnect are not errors for the operator; the access log shows them as 499.
    fn suppress_error_log(&self, _: &Session, _: &Context, error: &Error) -> bool {
        is_client_disconnect(error)
    }

    /// Without the query, which may contain secrets.
    fn request_summary(&self, session: &Session, ctx: &Context) -> String {
        let request = session.req_header();
        let id = ctx.exchange.as_ref().map_or("", |exchange| exchange.request_id().as_str());
        format!("{} {}, request {id}", request.method, request.uri.path())
    }
}

impl Context {
    /// The upstream of the matched route.
    fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.exchange.as_ref()?.route()?.upstream.as_ref()
    }

    fn progress(&mut self) -> Option<&Progress> {
        Some(&*self.connection.get_mut().as_ref()?.progress)
    }
}

impl Drop for Context {
    /// Logs a request that was given up because its body arrived too slowly.
    fn drop(&mut self) {
        if !self.progress().is_some_and(Progress::is_timed_out) {
            return;
        }
        if let Some(mut exchange) = self.exchange.take() {
            let response = exchange.reject(&Rejection::RequestTimeout, ResponseForm::Problem);
            exchange.finish(ResponseInfo { status: Some(response.status().as_u16()), bytes: 0 });
        }
    }
}

fn new_peer(address: std::net::SocketAddr, endpoint: &Endpoint, upstream: &Upstream) -> HttpPeer {
    let mut peer = HttpPeer::new(address, endpoint.tls(), endpoint.server_name().to_owned());
    peer.options.connection_timeout = Some(upstream.connect_timeout);
    peer.options.total_connection_timeout = Some(upstream.connect_timeout);
    peer.options.read_timeout = Some(upstream.read_timeout);
    peer.options.write_timeout = Some(upstream.read_timeout);
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    let (newest, oldest) = match upstream.protocol {
        UpstreamProtocol::Http1 => (1, 1),
        UpstreamProtocol::Http2 => (2, 2),
        UpstreamProtocol::Auto => (2, 1),
    };
    peer.options.set_http_version(newest, oldest);
    peer.options.max_h2_streams = UPSTREAM_STREAMS;
    peer
}

fn is_client_disconnect(error: &Error) -> bool {
    error.esource() == &ErrorSource::Downstream
        && matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed)
        && !matches!(stream_error(error), Some(io::ErrorKind::TimedOut | io::ErrorKind::InvalidData))
}

/// What the stream of the request has reported while the body was read.
fn stream_error(error: &Error) -> Option<io::ErrorKind> {
    if error.etype() != &ErrorType::ReadError {
        return None;
    }
    error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind)
}

fn rejection(error: &Error) -> Rejection {
    match (error.etype(), error.esource()) {
        (
            ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout,
            ErrorSource::Upstream,
        ) => Rejection::UpstreamTimeout,
        (_, ErrorSource::Downstream) if stream_error(error) == Some(io::ErrorKind::TimedOut) => {
            Rejection::RequestTimeout
        }
        (_, ErrorSource::Downstream) => Rejection::RequestInvalid("The request could not be read."),
        _ => Rejection::UpstreamUnreachable,
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
