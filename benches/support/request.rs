//! Message heads that the gateway reads and edits.

use std::sync::{Arc, LazyLock};

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use keygate::config::{AddedHeader, CredentialLocation, UpstreamLimitFields};
use keygate::gateway::head_edits::{edit_request_head, edit_response_head};
use keygate::id::RequestId;
use keygate::pipeline::RequestHead;
use keygate::pipeline::headers::{CertificateHeaders, ForwardContext, HeaderSelection, edit_request, edit_response};
use keygate::pipeline::rate_limit::LimitFields;
use keygate::verifier::Verdict;
use keygate::wire::credential_locations::CredentialLocations;
use pingora::http::{RequestHeader, ResponseHeader};

/// The host of requests.
pub(super) const HOST_NAME: &str = "api.example.com";
/// The path and query of requests.
const TARGET: &str = "/v1/orders/4711?page=2";
/// The tenant of the keys, as a field value.
const TENANT: HeaderValue = HeaderValue::from_static("00000000-0000-0000-0000-000000000000");
/// The locations of credentials in requests: the default ones.
static LOCATIONS: LazyLock<Arc<CredentialLocations>> =
    LazyLock::new(|| Arc::new(CredentialLocations::new(&CredentialLocation::standard())));
/// The `Host` field of requests to the upstream.
pub(super) const UPSTREAM_HOST: HeaderValue = HeaderValue::from_static("orders.internal:8080");

/// A request from a client.
pub(crate) struct Request {
    method: Method,
    uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Request {
    /// A request to [`HOST_NAME`] and [`TARGET`], with a credential if one is given.
    pub(super) fn new(credential: Option<&str>) -> Self {
        Self::to(HOST_NAME, TARGET, credential)
    }

    /// A request to a host and a target, with a credential if one is given.
    pub(crate) fn to(host: &str, target: &str, credential: Option<&str>) -> Self {
        let mut headers: HeaderMap = fields(credential).into_iter().collect();
        headers.insert(HOST, HeaderValue::try_from(host).expect("a host has no control characters"));
        Self { method: Method::GET, uri: target.parse().expect("the target is valid"), headers }
    }

    /// The head that the pipeline reads.
    pub(crate) fn head(&self) -> RequestHead<'_, HeaderMap> {
        RequestHead::new(&self.method, &self.uri, &self.headers)
    }
}

/// The request of [`Request::new`] in the representation of pingora, before it is edited for the upstream.
pub(super) fn pingora_request(credential: &str) -> RequestHeader {
    let mut request = RequestHeader::build("GET", TARGET.as_bytes(), None).expect("the request is valid");
    for (name, value) in fields(Some(credential)) {
        request.insert_header(name, value).expect("the number of fields is small");
    }
    request
}

/// A response from an upstream in the representation of pingora, before it is edited for the client.
pub(super) fn pingora_response() -> ResponseHeader {
    let mut response = ResponseHeader::build(StatusCode::OK, None).expect("the status is valid");
    let fields =
        [(CONTENT_TYPE, "application/json"), (CONTENT_LENGTH, "1024"), (DATE, "Sat, 21 Nov 2026 12:00:00 GMT")];
    for (name, value) in fields {
        response.insert_header(name, HeaderValue::from_static(value)).expect("the number of fields is small");
    }
    response
}

/// Edits a request head for the upstream. Sets all headers that are set by default.
pub(super) fn edit_for_upstream(
    request: &mut RequestHeader,
    verdict: &Verdict,
    forwarded_for: HeaderValue,
    request_id: &RequestId,
) {
    let context = ForwardContext {
        identity: Some(HeaderSelection::new(&AddedHeader::DEFAULT).identity(verdict, &TENANT)),
        credentials: Some(&LOCATIONS),
        forwarded_for: Some(forwarded_for),
        proto: Some("http"),
        host: Some(HOST_NAME),
        request_id: Some(request_id.value()),
        certificate: CertificateHeaders::default(),
        upstream_host: UPSTREAM_HOST,
        allow_underscores: false,
    };
    edit_request_head(request, TARGET, |fields| edit_request(fields, context).apply(fields))
        .expect("the target is valid");
}

/// Edits a response head for the client.
pub(super) fn edit_for_client(response: &mut ResponseHeader, limits: &LimitFields, request_id: &RequestId) {
    let status = response.status;
    let edited = edit_response_head(response, |fields| {
        let mut edits = edit_response(fields, status, request_id.value());
        limits.clone().edit(&mut edits, fields, UpstreamLimitFields::Keep);
        edits.apply(fields);
    });
    edited.expect("the response has no custom reason phrase");
}

/// The header fields of a request, with a credential if one is given.
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
