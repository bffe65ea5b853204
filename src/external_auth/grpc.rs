//! `envoy.service.auth.v3.Authorization`: the check and its answers over gRPC.

use std::collections::HashMap;
use std::net::IpAddr;

use async_trait::async_trait;
use envoy_types::ext_authz::v3::pb::{
    Address, Authorization, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderAppendAction,
    HeaderValue as EnvoyHeader, HeaderValueOption, HttpResponse, HttpStatus, OkHttpResponse,
};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{BoolValue, ListValue, Struct, Value};
use envoy_types::pb::google::rpc;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Request, Response, Status};

use super::check::{Allowed, Checked, Checker, Denied};
use super::original::{Invalid, Original, address};
use crate::verifier::Verdict;
use crate::wire::problem::X_REQUEST_ID;

const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;

const REQUEST_MISSING: Invalid = "The check describes no HTTP request.";
const FIELDS_INVALID: Invalid = "The fields of the original request are not valid.";

/// The service.
pub(super) struct Service {
    checker: Checker,
}

impl Service {
    pub(super) fn new(checker: Checker) -> Self {
        Self { checker }
    }
}

#[async_trait]
impl Authorization for Service {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let http = attributes.request.as_ref().and_then(|request| request.http.as_ref());
        let fields = http.ok_or(REQUEST_MISSING).and_then(fields);
        let original = match (http, &fields) {
            (Some(http), Ok(_)) => Original::new(&http.method, &http.host, &http.path, source(&attributes)),
            (None, _) => Err(REQUEST_MISSING),
            (_, Err(why)) => Err(*why),
        };
        let fields = fields.unwrap_or_default();
        Ok(Response::new(match self.checker.check(original, &fields).await {
            Checked::Allowed(allowed) => allow(&allowed, &fields),
            Checked::Denied(denied) => deny(&denied),
        }))
    }
}

/// The fields of the original request. With `encode_raw_headers` they are a list; otherwise a map, in which Envoy joins the values of
/// one name by commas.
fn fields(http: &HttpRequest) -> Result<HeaderMap, Invalid> {
    let mut fields = HeaderMap::new();
    let mut add = |name: &str, value: &[u8]| {
        // Pseudo-header fields, such as `:path`.
        if name.starts_with(':') {
            return Ok(());
        }
        let name: HeaderName = name.parse().map_err(|_| FIELDS_INVALID)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| FIELDS_INVALID)?;
        fields.try_append(name, value).map(|_| ()).map_err(|_| FIELDS_INVALID)
    };
    match &http.header_map {
        Some(list) => list.headers.iter().try_for_each(|field| {
            let value = if field.raw_value.is_empty() { field.value.as_bytes() } else { &field.raw_value };
            add(&field.key, value)
        })?,
        None => http.headers.iter().try_for_each(|(name, value)| add(name, value.as_bytes()))?,
    }
    Ok(fields)
}

/// The client's address.
fn source(attributes: &AttributeContext) -> Option<IpAddr> {
    match attributes.source.as_ref()?.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => address(&socket.address),
        _ => None,
    }
}

fn allow(allowed: &Allowed, fields: &HeaderMap) -> CheckResponse {
    let (ids, limits): (Vec<_>, Vec<_>) = allowed.answer.iter().partition(|(name, _)| *name == X_REQUEST_ID);
    let identity = allowed.edits.set().map(|(name, value)| set(&name, value));
    CheckResponse {
        status: Some(status(OK)),
        dynamic_metadata: allowed.verdict.as_ref().map(metadata),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers: identity.chain(ids.into_iter().map(|(name, value)| set(name, value))).collect(),
            headers_to_remove: allowed.removed(fields).map(str::to_owned).collect(),
            query_parameters_to_remove: allowed.parameters.clone(),
            response_headers_to_add: limits.into_iter().map(|(name, value)| set(name, value)).collect(),
            ..OkHttpResponse::default()
        })),
    }
}

fn deny(denied: &Denied) -> CheckResponse {
    let response = &denied.response;
    // Envoy sets the length of the body itself.
    let fields = response.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_LENGTH);
    CheckResponse {
        status: Some(status(PERMISSION_DENIED)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: response.status().as_u16().into() }),
            headers: fields.map(|(name, value)| set(name, value)).collect(),
            body: String::from_utf8_lossy(response.body()).into_owned(),
        })),
    }
}

fn status(code: i32) -> rpc::Status {
    rpc::Status { code, ..rpc::Status::default() }
}

/// A field that replaces those of its name.
fn set(name: &HeaderName, value: &HeaderValue) -> HeaderValueOption {
    let header = EnvoyHeader {
        key: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ..EnvoyHeader::default()
    };
    #[expect(deprecated, reason = "older versions of Envoy read `append` and not `append_action`")]
    HeaderValueOption {
        header: Some(header),
        append: Some(BoolValue { value: false }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: false,
    }
}

/// What Envoy's access log and later filters can read of the caller.
fn metadata(verdict: &Verdict) -> Struct {
    let text = |text: String| Value { kind: Some(Kind::StringValue(text)) };
    let scopes = verdict.scopes().iter().map(|scope| text(scope.to_string())).collect();
    let fields = [
        ("key_id", text(verdict.key_id().to_string())),
        ("actor_id", text(verdict.actor_id().to_owned())),
        ("tenant_id", text(verdict.tenant().to_string())),
        ("credential_type", text(verdict.kind().name().to_owned())),
        ("scopes", Value { kind: Some(Kind::ListValue(ListValue { values: scopes })) }),
    ];
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<HashMap<_, _>>() }
}
