//! The routes of the listeners.

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use http::{HeaderMap, Method, Response};

use super::check::Checker;
use super::grpc::Service;
use super::http::{envoy, forward, nginx};
use crate::id::RequestId;
use crate::pipeline::{Rejection, RequestHead, ResponseForm};
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::problem::rejection_response;

/// The maximum size in bytes of a check over gRPC.
const CHECK_MAX: usize = 256 * 1024;

/// The routes for trusted peers.
pub(super) fn router(checker: &Checker) -> Router {
    let service = AuthorizationServer::new(Service::new(checker.clone())).max_decoding_message_size(CHECK_MAX);
    Router::new()
        .route("/nginx", any(nginx))
        .route("/forward", any(forward))
        .route("/envoy", any(envoy))
        .route("/envoy/", any(envoy))
        .route("/envoy/{*path}", any(envoy))
        .with_state(checker.clone())
        .route_service("/envoy.service.auth.v3.Authorization/{*method}", service)
        .fallback(async |fields: HeaderMap| refuse(&Rejection::RouteNotFound, &fields))
}

/// The routes for other peers: 403 for everything.
pub(super) fn untrusted() -> Router {
    Router::new().fallback(async |fields: HeaderMap| refuse(&Rejection::PeerNotTrusted, &fields))
}

fn refuse(rejection: &Rejection, fields: &HeaderMap) -> Response<Body> {
    let head = RequestHead { method: &Method::GET, authority: None, path: "", query: None, version: None, fields };
    let id = head.request_id().unwrap_or_else(RequestId::random);
    rejection_response(rejection, &id, ResponseForm::of(fields), CredentialLocations::standard()).map(Body::from)
}
