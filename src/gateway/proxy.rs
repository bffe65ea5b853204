//! The thin layer between pingora's phases and the gateway's steps.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::TcpKeepalive;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::account::{Account, End, Metrics};
use super::decide::{Admitted, Decider, Head, host};
use super::forward::{Added, Hop, Identity, edit_request, edit_response, forwarded_for, owned, ready};
use super::heads::{edit_request_head, edit_response_head};
use super::limit::Charged;
use super::refuse::answer;
use super::upstream::{Endpoint, Upstream};
use crate::config::{AddedHeader, Auth, UpstreamLimitFields};
use crate::id::RequestId;
use crate::verifier::{ConnectionMemory, Denial, Verdict};
use crate::wire::problem::{X_REQUEST_ID, problem};

/// How long reading over the rest of a refused request may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections to upstreams are kept until the upstream closes them, or is found to be gone by the system's own probes: a
/// timer of ours would cost every request, and tells less.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// The gateway as pingora calls it.
pub(super) struct Proxy {
    pub(super) decider: Decider,
    /// What upstreams are to see.
    pub(super) added: Added,
    /// Whom all keys belong to that the decider knows, as a field value.
    pub(super) tenant: HeaderValue,
    /// By the routes' numbers.
    pub(super) upstreams: Vec<Option<Arc<Upstream>>>,
    pub(super) metrics: Metrics,
    pub(super) limit_fields: UpstreamLimitFields,
}

/// What is kept for one request.
pub(super) struct Context {
    account: Option<Account>,
    admitted: Option<Admitted>,
    charged: Charged,
    upstream: Option<Arc<Upstream>>,
    host: Option<HeaderValue>,
    attempts: usize,
    /// In a lock because pingora hands the context out for reading when it asks for what the connection is to remember.
    connection: Mutex<Option<Box<Connection>>>,
}

/// What is kept from one request on a connection to the next.
#[derive(Default)]
struct Connection {
    memory: ConnectionMemory,
    /// The client's address as the upstream is told of it.
    forwarded_for: Option<HeaderValue>,
}

impl Proxy {
    fn identity(&self, verdict: &Verdict) -> Identity {
        let added = self.added;
        Identity {
            key_id: added.when(AddedHeader::XKeygateKeyId, || owned(verdict.key_id().to_string())),
            actor_id: added.when(AddedHeader::XKeygateActorId, || ready(verdict.actor().field())),
            tenant_id: added.when(AddedHeader::XKeygateTenantId, || self.tenant.clone()),
            scopes: added.when(AddedHeader::XKeygateScopes, || ready(verdict.grant().field())),
            credential_type: added
                .when(AddedHeader::XKeygateCredentialType, || HeaderValue::from_static(verdict.kind().name())),
        }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            account: None,
            admitted: None,
            charged: Charged::default(),
            upstream: None,
            host: None,
            attempts: 0,
            connection: Mutex::new(None),
        }
    }

    /// No modules: what passes through is not Keygate's to compress.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    fn persist_connection_context(&self, _: &Session, ctx: &Context) -> Option<Box<dyn Any + Send + Sync>> {
        ctx.connection.lock().take().map(|connection| connection as Box<dyn Any + Send + Sync>)
    }

    fn on_connection_reuse(&self, _: &mut Session, ctx: &mut Context, before: Box<dyn Any + Send + Sync>) {
        *ctx.connection.get_mut() = before.downcast().ok();
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        let peer = peer(session);
        let request = session.req_header();
        let arrived = Instant::now();
        let account = ctx.account.insert(self.metrics.open(request_id(&request.headers), arrived));
        let head = Head { method: &request.method, uri: &request.uri, headers: &request.headers, peer, arrived };
        let connection = ctx.connection.get_mut().get_or_insert_default();
        let decision = self.decider.decide(head, &mut connection.memory).await;
        account.route = decision.route;
        ctx.charged = decision.charged;
        match decision.outcome {
            Ok(admitted) => {
                account.key_id = admitted.verdict.as_ref().map(Verdict::key_id);
                ctx.upstream = self.upstreams.get(admitted.route.number).cloned().flatten();
                ctx.admitted = Some(admitted);
                Ok(false)
            }
            Err(denial) => {
                account.denial = Some(denial.code());
                let mut refusal = problem(&denial, &account.request_id);
                ctx.charged.describe(refusal.headers_mut());
                answer(session, refusal).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        let upstream = ctx.upstream.as_ref().ok_or_else(unreachable_upstream)?;
        let endpoint = upstream.next().ok_or_else(unreachable_upstream)?;
        let address = endpoint.address().await.map_err(|_| unreachable_upstream())?;
        ctx.host = Some(endpoint.host_value().clone());
        Ok(Box::new(new_peer(address, endpoint, upstream)))
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        // Nothing was sent yet, so another endpoint may be tried whatever the method.
        ctx.attempts += 1;
        error.set_retry(ctx.upstream.as_ref().is_some_and(|upstream| ctx.attempts < upstream.len()));
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let (Some(admitted), Some(account)) = (&ctx.admitted, &ctx.account) else {
            return Err(unreachable_upstream());
        };
        let asked = session.req_header();
        let peer = peer(session);
        let connection = ctx.connection.get_mut().get_or_insert_default();
        let added = self.added;
        let hop = Hop {
            identity: admitted.verdict.as_ref().map(|verdict| self.identity(verdict)),
            take_credential: admitted.route.auth != Auth::None,
            peer: peer.and_then(|peer| {
                added.when(AddedHeader::XForwardedFor, || {
                    connection.forwarded_for.get_or_insert_with(|| forwarded_for(peer)).clone()
                })
            }),
            proto: added.when(AddedHeader::XForwardedProto, || "http"),
            // A request whose host cannot be told was refused before it came here.
            host: added.when(AddedHeader::XForwardedHost, || host(&asked.uri, &asked.headers).unwrap_or_default()),
            request_id: added.when(AddedHeader::XRequestId, || account.request_id.value()),
            upstream_host: ctx.host.clone().unwrap_or_else(|| HeaderValue::from_static("")),
        };
        edit_request_head(request, &admitted.target, |fields| edit_request(fields, hop))
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if let Some(account) = &ctx.account {
            let status = response.status;
            edit_response_head(response, |fields| {
                edit_response(fields, status, account.request_id.value());
                ctx.charged.add_to(fields, self.limit_fields);
            })?;
        }
        Ok(())
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        // What was begun cannot be taken back: the connection's end tells the client.
        if is_client_gone(error) || session.response_written().is_some() {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let denial = denial(error);
        let fallback = RequestId::random();
        let id = ctx.account.as_ref().map_or(&fallback, |account| &account.request_id);
        let response = problem(&denial, id);
        let status = response.status().as_u16();
        if let Some(account) = &mut ctx.account {
            account.denial = Some(denial.code());
        }
        // pingora gives up the client's connection after a failed upstream, so the client is told.
        session.set_keepalive(None);
        if let Err(error) = answer(session, response).await {
            tracing::debug!(%error, "the client went away before it was answered");
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Context) {
        let Some(account) = ctx.account.take() else {
            return;
        };
        let request = session.req_header();
        let end = End {
            method: &request.method,
            path: request.uri.path(),
            status: session.response_written().map(|response| response.status.as_u16()),
            bytes: session.body_bytes_sent(),
            peer: peer(session),
        };
        self.metrics.close(&account, &end);
    }

    /// Clients that go away are no concern of the operator, and would fill the log; the access log shows them as 499.
    fn suppress_error_log(&self, _: &Session, _: &Context, error: &Error) -> bool {
        is_client_gone(error)
    }

    /// The default shows the whole target, and a query may hold secrets.
    fn request_summary(&self, session: &Session, ctx: &Context) -> String {
        let request = session.req_header();
        let id = ctx.account.as_ref().map_or("", |account| account.request_id.as_str());
        format!("{} {}, request {id}", request.method, request.uri.path())
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

fn is_client_gone(error: &Error) -> bool {
    error.esource() == &ErrorSource::Downstream
        && matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed)
}

fn denial(error: &Error) -> Denial {
    match (error.etype(), error.esource()) {
        (
            ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout,
            ErrorSource::Upstream,
        ) => Denial::UpstreamTimeout,
        (_, ErrorSource::Downstream) => Denial::RequestInvalid("The request could not be read."),
        _ => Denial::UpstreamUnreachable,
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
fn unreachable_upstream() -> Box<Error> {
    Error::new_up(ErrorType::ConnectError)
}

fn peer(session: &Session) -> Option<IpAddr> {
    Some(session.client_addr()?.as_inet()?.ip())
}

fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    given.and_then(RequestId::sane).unwrap_or_else(RequestId::random)
}
