//! The request context of an admin request, built before its handler runs, once the caller may make the request.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use http::{Extensions, HeaderMap};

use super::auth::{Access, AdminGrant, AuthenticatedCaller, Op, Operation, Presentation, Role};
use super::body::{RawBody, drain};
use super::error::{ApiError, Reason};
use super::rate_limit_status::RateLimitStatus;
use super::server::Peer;
use super::state::AdminState;
use crate::connection::ClientCertificate;
use crate::id::RequestId;
use crate::request_context::{ActorScope, Administrator, Principal, RequestContext};
use crate::wire::client_ip::client_ip;

/// The context of a request for the operation `O`: the served tenant, the caller, the actors that it is bound to, the client address from
/// the configured source, and the request id chosen by the middleware. Rejects callers that lack the role of the operation.
pub(super) struct Context<O> {
    pub(super) context: RequestContext,
    /// Private, so that only the extractors of this file make a context.
    operation: PhantomData<O>,
}

/// The same, with what the caller may grant to others.
pub(super) struct Caller<O> {
    pub(super) context: RequestContext,
    pub(super) grant: AdminGrant,
    operation: PhantomData<O>,
}

/// Has the rate limit of the admin key charged once for all requests with a clone of it: a page of the console is made from several.
#[derive(Clone, Default)]
pub(super) struct OneCharge(Arc<AtomicBool>);

/// The context and the body of a request for a custom verb. The body is read once the caller may make the request.
pub(super) struct Call<O> {
    pub(super) caller: Caller<O>,
    pub(super) body: RawBody,
}

impl<O: Op> FromRequestParts<AdminState> for Context<O> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, ApiError> {
        let Caller { context, operation, .. } = Caller::from_request_parts(parts, state).await?;
        Ok(Self { context, operation })
    }
}

impl<O: Op> FromRequestParts<AdminState> for Caller<O> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, ApiError> {
        let (context, grant) = authorize(O::OPERATION, parts, state).await?;
        Ok(Self { context, grant, operation: PhantomData })
    }
}

impl<O: Op> FromRequest<AdminState> for Call<O> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AdminState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        match Caller::from_request_parts(&mut parts, state).await {
            Ok(caller) => {
                let body = RawBody::from_request(Request::from_parts(parts, body), state).await?;
                Ok(Self { caller, body })
            }
            Err(error) => {
                drain(body).await;
                Err(error)
            }
        }
    }
}

/// Authenticates the caller and checks its role.
async fn authorize(
    operation: Operation,
    parts: &Parts,
    state: &AdminState,
) -> Result<(RequestContext, AdminGrant), ApiError> {
    let mut context = request_context(&parts.extensions, &parts.headers, state);
    let needed = match operation.access() {
        Access::Public => return Ok((context, AdminGrant::full())),
        Access::AnyRole => None,
        Access::Role(role) => Some(role),
    };
    let Some(authenticator) = &state.authenticator else { return Ok((context, AdminGrant::full())) };
    let presentation = Presentation {
        is_oauth_client: operation == Operation::Introspect,
        headers: &parts.headers,
        certificate: parts.extensions.get::<Arc<ClientCertificate>>().map(AsRef::as_ref),
        client_ip: context.client_ip,
        arrived: Instant::now(),
    };
    let caller = authenticator.authenticate(&presentation).await?;
    if parts.extensions.get::<OneCharge>().is_none_or(OneCharge::is_first) {
        charge(&caller, state).await?;
    }
    let AuthenticatedCaller { name, grant, .. } = caller;
    let principal = Principal::Admin(Administrator::new(name, grant.role_names()));
    if let Some(role) = needed.filter(|role| !grant.has(*role)) {
        return Err(lacks(role).of_caller(principal));
    }
    context.principal = principal;
    context.actors = grant.actors.clone();
    Ok((context, grant))
}

/// The context of a request with these extensions and headers, of an anonymous caller.
pub(super) fn request_context(extensions: &Extensions, headers: &HeaderMap, state: &AdminState) -> RequestContext {
    let peer = extensions.get::<Peer>().map(|Peer(address)| *address);
    RequestContext {
        tenant: state.tenant,
        principal: Principal::Anonymous,
        actors: ActorScope::All,
        client_ip: client_ip(state.client_ip_source, peer, headers),
        request_id: extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::random),
    }
}

impl OneCharge {
    /// Whether this is the first request.
    fn is_first(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// Charges the rate limit of the admin key.
async fn charge(caller: &AuthenticatedCaller, state: &AdminState) -> Result<(), ApiError> {
    let Some(verdict) = &caller.verdict else { return Ok(()) };
    let Some(policy) = verdict.rate_limit() else { return Ok(()) };
    let status = RateLimitStatus::charge_key(verdict, policy, state).await;
    if !status.is_exceeded() {
        return Ok(());
    }
    let mut headers = HeaderMap::new();
    status.describe(&mut headers);
    Err(ApiError::new(Reason::TooManyRequests, "the rate limit of the admin key is exceeded").with_headers(headers))
}

/// The error of a caller without a role.
fn lacks(role: Role) -> ApiError {
    ApiError::new(Reason::Forbidden, format!("the admin key lacks the role {role}"))
        .with_metadata("required_role", role.name().to_owned())
}
