//! The pingora front: calls the steps of the pipeline from pingora's phases and moves the bytes.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::TcpKeepalive;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::head_edits::{edit_request_head, edit_response_head};
use super::respond::respond;
use super::upstream::{Endpoint, Upstream};
use crate::id::RequestId;
use crate::pipeline::{Connection, CurrentSnapshot, Exchange, Rejection, RequestHead, ResponseInfo};
use crate::wire::problem::{ResponseForm, rejection_response};

/// Time limit for draining the body of a rejected request.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// TCP keep-alive of idle upstream connections. It detects dead peers, so that no idle timer of ours is needed, which would cost every
/// request.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

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
    /// Behind a lock, because pingora gives out the context by shared reference when it collects the state of the connection.
    connection: Mutex<Option<Box<Connection>>>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context { exchange: None, upstream_host: None, attempts: 0, connection: Mutex::new(None) }
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
        let connection = ctx.connection.get_mut().get_or_insert_with(|| Box::new(Connection::new(client_ip(session))));
        let request = session.req_header();
        let head = RequestHead::new(&request.method, &request.uri, &request.headers);
        let exchange = ctx.exchange.insert(Exchange::begin(self.snapshot.load_full(), &head, connection));
        match exchange.authorize(&request.headers, connection).await {
            Ok(()) => Ok(false),
            Err(rejection) => {
                let response = exchange.reject(&rejection, ResponseForm::of(&request.headers));
                respond(session, response).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        let upstream = ctx.upstream().ok_or_else(unreachable_upstream)?;
        let endpoint = upstream.next().ok_or_else(unreachable_upstream)?;
        let address = endpoint.address().await.map_err(|_| unreachable_upstream())?;
        let (peer, host) = (new_peer(address, endpoint, upstream), endpoint.host_value().clone());
        ctx.upstream_host = Some(host);
        Ok(Box::new(peer))
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        // Nothing was sent yet, so the request may be retried on another endpoint whatever its method is.
        ctx.attempts += 1;
        error.set_retry(ctx.upstream().is_some_and(|upstream| ctx.attempts < upstream.len()));
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let host = ctx.upstream_host.clone().unwrap_or_else(|| HeaderValue::from_static(""));
        let connection = ctx.connection.get_mut().get_or_insert_default();
        let exchange = ctx.exchange.as_ref();
        let edits =
            exchange.and_then(|exchange| exchange.request_edits(&session.req_header().headers, connection, host));
        let mut edits = edits.ok_or_else(unreachable_upstream)?;
        edit_request_head(request, edits.target, |fields| edits.fields.apply(fields))
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if let Some(exchange) = &ctx.exchange {
            let status = response.status;
            edit_response_head(response, |fields| exchange.response_edits(status, fields).apply(fields))?;
        }
        Ok(())
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
            None => rejection_response(&rejection, &RequestId::random(), form),
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
}

fn new_peer(address: std::net::SocketAddr, endpoint: &Endpoint, upstream: &Upstream) -> HttpPeer {
    let mut peer = HttpPeer::new(address, endpoint.tls(), endpoint.server_name().to_owned());
    peer.options.connection_timeout = Some(upstream.connect_timeout);
    peer.options.total_connection_timeout = Some(upstream.connect_timeout);
    peer.options.read_timeout = Some(upstream.read_timeout);
    peer.options.write_timeout = Some(upstream.read_timeout);
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    peer
}

fn is_client_disconnect(error: &Error) -> bool {
    error.esource() == &ErrorSource::Downstream
        && matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed)
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
        (_, ErrorSource::Downstream) => Rejection::RequestInvalid("The request could not be read."),
        _ => Rejection::UpstreamUnreachable,
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
fn unreachable_upstream() -> Box<Error> {
    Error::new_up(ErrorType::ConnectError)
}

fn client_ip(session: &Session) -> Option<IpAddr> {
    Some(session.client_addr()?.as_inet()?.ip())
}
