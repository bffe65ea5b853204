//! Heads of messages, as the gateway sees and edits them.

use std::time::Instant;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use keygate::config::UpstreamLimitFields;
use keygate::gateway::decide::Head;
use keygate::gateway::forward::{Hop, Identity, edit_request, edit_response, owned, ready};
use keygate::gateway::heads::{edit_request_head, edit_response_head};
use keygate::gateway::limit::Charged;
use keygate::id::RequestId;
use keygate::verifier::Verdict;
use pingora::http::{RequestHeader, ResponseHeader};

use super::parts::PEER;

/// The host that is asked for.
pub(super) const HOST_NAME: &str = "api.example.com";
/// What is asked for.
const TARGET: &str = "/v1/orders/4711?page=2";
/// Whom the keys belong to.
const TENANT: &str = "00000000-0000-0000-0000-000000000000";

/// A client's request.
pub(crate) struct Request {
    method: Method,
    uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Request {
    /// A request with `credential`, or without one.
    pub(super) fn new(credential: Option<&str>) -> Self {
        Self::to(HOST_NAME, TARGET, credential)
    }

    /// As [`Request::new`], to a host and a target.
    pub(crate) fn to(host: &str, target: &str, credential: Option<&str>) -> Self {
        let mut headers: HeaderMap = fields(credential).into_iter().collect();
        headers.insert(HOST, HeaderValue::try_from(host).expect("a host has no control characters"));
        Self { method: Method::GET, uri: target.parse().expect("the target is one"), headers }
    }

    /// What a decision is made from.
    pub(crate) fn head(&self) -> Head<'_> {
        Head { method: &self.method, uri: &self.uri, headers: &self.headers, peer: Some(PEER), arrived: Instant::now() }
    }
}

/// The same request as pingora holds it before it is forwarded.
pub(super) fn to_forward(credential: &str) -> RequestHeader {
    let mut request = RequestHeader::build("GET", TARGET.as_bytes(), None).expect("the request is one");
    for (name, value) in fields(Some(credential)) {
        request.insert_header(name, value).expect("there is room for a field");
    }
    request
}

/// An upstream's answer as pingora holds it.
pub(super) fn to_send_back() -> ResponseHeader {
    let mut response = ResponseHeader::build(StatusCode::OK, None).expect("the status is one");
    let fields =
        [(CONTENT_TYPE, "application/json"), (CONTENT_LENGTH, "1024"), (DATE, "Sat, 21 Nov 2026 12:00:00 GMT")];
    for (name, value) in fields {
        response.insert_header(name, HeaderValue::from_static(value)).expect("there is room for a field");
    }
    response
}

/// Makes a request into what the upstream sees, as the gateway does for who was judged good.
pub(super) fn forward(request: &mut RequestHeader, verdict: &Verdict, peer: HeaderValue, request_id: &RequestId) {
    let identity = Identity {
        key_id: Some(owned(verdict.key_id().to_string())),
        actor_id: Some(ready(verdict.actor().field())),
        tenant_id: Some(HeaderValue::from_static(TENANT)),
        scopes: Some(ready(verdict.grant().field())),
        credential_type: Some(HeaderValue::from_static(verdict.kind().name())),
    };
    let hop = Hop {
        identity: Some(identity),
        take_credential: true,
        peer: Some(peer),
        proto: Some("http"),
        host: Some(HOST_NAME),
        request_id: Some(request_id.value()),
        upstream_host: HeaderValue::from_static("orders.internal:8080"),
    };
    edit_request_head(request, TARGET, |fields| edit_request(fields, hop)).expect("the target is one");
}

/// Makes an answer into what the client sees, as the gateway does.
pub(super) fn send_back(response: &mut ResponseHeader, charged: &Charged, request_id: &RequestId) {
    let status = response.status;
    let edited = edit_response_head(response, |fields| {
        edit_response(fields, status, request_id.value());
        charged.add_to(fields, UpstreamLimitFields::Keep);
    });
    edited.expect("there is no reason phrase to keep");
}

fn fields(credential: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    let fixed = [
        (HOST, HOST_NAME),
        (USER_AGENT, "orders-client/2.4"),
        (ACCEPT, "application/json"),
        (ACCEPT_ENCODING, "gzip, br"),
    ];
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let bearer = credential.map(|text| {
        (
            AUTHORIZATION,
            HeaderValue::try_from(format!("Bearer {text}")).expect("a credential has no control characters"),
        )
    });
    fixed.into_iter().chain(bearer).collect()
}
