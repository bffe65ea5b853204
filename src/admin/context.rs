//! The request context of an admin request, built before its handler runs.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Extensions, HeaderMap};

use super::server::Peer;
use super::state::AdminState;
use crate::id::RequestId;
use crate::request_context::{Principal, RequestContext};
use crate::wire::client_ip::client_ip;

/// The context of a request: the served tenant, the client address from the configured source, and the request id chosen by the
/// middleware. Every client is anonymous.
pub(super) struct Context(pub(super) RequestContext);

impl FromRequestParts<AdminState> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Infallible> {
        Ok(Self(request_context(&parts.extensions, &parts.headers, state)))
    }
}

/// The context of a request with these extensions and headers.
pub(super) fn request_context(extensions: &Extensions, headers: &HeaderMap, state: &AdminState) -> RequestContext {
    let peer = extensions.get::<Peer>().map(|Peer(address)| *address);
    RequestContext {
        tenant: state.tenant,
        principal: Principal::Anonymous,
        client_ip: client_ip(state.client_ip_source, peer, headers),
        request_id: extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::random),
    }
}
