//! Heads of messages, as the gateway sees and edits them.

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use keygate::gateway::decide::Head;
use keygate::gateway::forward::{Hop, Identity, edit_request, edit_response};
use keygate::verifier::Verdict;
use pingora::http::{RequestHeader, ResponseHeader};

use super::parts::PEER;

/// The host that is asked for.
pub(super) const HOST_NAME: &str = "api.example.com";
/// What is asked for.
const TARGET: &str = "/v1/orders/4711?page=2";
/// As the gateway makes them.
const REQUEST_ID: &str = "7e5a2f0c-8d3b-4b1e-9a46-3c1d0e9f8b72";

/// A client's request.
pub(super) struct Request {
    method: Method,
    uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Request {
    /// A request with `credential`, or without one.
    pub(super) fn new(credential: Option<&str>) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in fields(credential) {
            headers.insert(name, value);
        }
        Self { method: Method::GET, uri: Uri::from_static(TARGET), headers }
    }

    /// What a decision is made from.
    pub(super) fn head(&self) -> Head<'_> {
        Head { method: &self.method, uri: &self.uri, headers: &self.headers, peer: Some(PEER) }
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
pub(super) fn forward(request: &mut RequestHeader, verdict: &Verdict) {
    let (key_id, tenant_id) = (verdict.key_id().to_string(), verdict.tenant().to_string());
    let identity = Identity {
        key_id: &key_id,
        actor_id: verdict.actor_id(),
        tenant_id: &tenant_id,
        scopes: verdict.scopes().as_slice(),
        credential_type: verdict.kind().name(),
    };
    let hop = Hop {
        identity: Some(identity),
        take_credential: true,
        peer: Some(PEER),
        proto: "http",
        host: HOST_NAME,
        request_id: REQUEST_ID,
        upstream_host: HeaderValue::from_static("orders.internal:8080"),
    };
    edit_request(request, &hop);
}

/// Makes an answer into what the client sees.
pub(super) fn send_back(response: &mut ResponseHeader) {
    let status = response.status;
    edit_response(response, status, REQUEST_ID);
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
