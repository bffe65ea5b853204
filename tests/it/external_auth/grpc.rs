//! `envoy.service.auth.v3.Authorization/Check`.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::{Address, HeaderMap, HeaderValue, HeaderValueOption, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::google::protobuf::value::Kind;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::Fixture;

type Client = AuthorizationClient<Channel>;

async fn client(fixture: &Fixture) -> Client {
    AuthorizationClient::connect(format!("http://{}", fixture.address)).await.unwrap()
}

/// A check as Envoy sends it; `line` is the method and the target.
fn check(line: &str, fields: &[(&str, &str)]) -> CheckRequest {
    let (method, path) = line.split_once(' ').unwrap();
    let headers: HashMap<_, _> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let pseudo = [(":method", method), (":path", path), (":authority", "api.example.com"), (":scheme", "https")];
    let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let http = HttpRequest {
        method: method.into(),
        path: path.into(),
        host: "api.example.com".into(),
        headers: headers.into_iter().chain(pseudo).collect(),
        ..HttpRequest::default()
    };
    let socket = SocketAddress { address: "203.0.113.7".into(), ..SocketAddress::default() };
    let address = Address { address: Some(AnyAddress::SocketAddress(socket)) };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer { address: Some(address), ..Peer::default() }),
            request: Some(Request { http: Some(http), ..Request::default() }),
            ..AttributeContext::default()
        }),
    }
}

/// The same check in the form of `encode_raw_headers`: a list, which may have several fields of one name.
fn raw(line: &str, fields: &[(&str, &str)]) -> CheckRequest {
    let mut check = check(line, &[]);
    let http = check.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.headers.clear();
    let field = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).into(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    http.header_map = Some(HeaderMap { headers: fields.iter().map(field).collect() });
    check
}

async fn send(client: &mut Client, check: CheckRequest) -> CheckResponse {
    client.check(check).await.unwrap().into_inner()
}

#[track_caller]
fn allowed(response: CheckResponse) -> OkHttpResponse {
    assert_eq!(response.status.as_ref().map(|status| status.code), Some(0));
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("{other:?}"),
    }
}

/// The status, the code of the problem, and the fields of a rejection.
#[track_caller]
fn denied(response: CheckResponse) -> (i32, String, BTreeMap<String, String>) {
    assert_ne!(response.status.as_ref().map(|status| status.code), Some(0));
    let Some(HttpResponse::DeniedResponse(DeniedHttpResponse { status, headers, body })) = response.http_response
    else {
        panic!("{response:?}")
    };
    let problem: Value = serde_json::from_str(&body).unwrap();
    let status = status.unwrap().code;
    assert_eq!(problem["status"], status);
    let fields = set(&headers);
    assert_eq!((&*fields["content-type"], &*fields["cache-control"]), ("application/problem+json", "no-store"));
    (status, problem["code"].as_str().unwrap().to_owned(), fields)
}

/// The fields that are set, each once and replacing what is there.
#[track_caller]
fn set(options: &[HeaderValueOption]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    for option in options {
        #[expect(deprecated, reason = "older versions of Envoy read it")]
        let append = option.append.as_ref().map(|append| append.value);
        assert_eq!((append, option.append_action), (Some(false), 2), "{option:?}");
        let header = option.header.clone().unwrap();
        assert_eq!(fields.insert(header.key.clone(), header.value), None, "{}", header.key);
    }
    fields
}

#[tokio::test]
async fn credential_in_a_cookie_or_the_query_is_removed() {
    let locations = json!({"gateway": {"credentials": [{"cookie": "token"}, {"query": "apikey"}]}});
    let fixture = Fixture::with(&locations);
    let mut client = client(&fixture).await;
    let (_, key) = fixture.keygate.issue(json!({})).await;
    let cookies = format!("a=1; token={key}; b=2");
    for check in [check("GET /plain", &[("cookie", &cookies)]), raw("GET /plain", &[("cookie", &cookies)])] {
        let ok = allowed(send(&mut client, check).await);
        assert_eq!(set(&ok.headers)["cookie"], "a=1; b=2");
        assert_eq!(ok.query_parameters_to_remove, ["apikey"]);
    }
    let only = format!("token={key}");
    let ok = allowed(send(&mut client, check("GET /plain", &[("cookie", &only)])).await);
    assert_eq!(ok.headers_to_remove, ["cookie"]);
    let ok = allowed(send(&mut client, check(&format!("GET /plain?apikey={key}"), &[])).await);
    assert_eq!(ok.query_parameters_to_remove, ["apikey"]);
    let (status, code, fields) = denied(send(&mut client, check("GET /plain", &[("x-api-key", &key)])).await);
    assert_eq!(
        (status, code.as_str(), &*fields["www-authenticate"]),
        (401, "credential_missing", "Key realm=\"keygate\"")
    );
}

#[tokio::test]
async fn authorized_request_gets_identity_limits_and_metadata() {
    let fixture = Fixture::start();
    let mut client = client(&fixture).await;
    let (id, key) = fixture
        .keygate
        .issue(json!({"scopes": ["read:orders", "x"], "rate_limit_policy": {"quota": "9", "window": "3600s"}}))
        .await;
    let bearer = format!("Bearer {key}");
    let fields = [
        ("authorization", &*bearer),
        ("x-request-id", "req-1"),
        ("x-keygate-actor-id", "root"),
        ("x-keygate_scopes", "admin"),
        ("x-keygate-admin", "1"),
        ("accept", "*/*"),
    ];
    for check in [check("GET /orders/1?page=2", &fields), raw("GET /orders/1?page=2", &fields)] {
        let response = send(&mut client, check).await;
        let metadata = response.dynamic_metadata.clone().unwrap().fields;
        let ok = allowed(response);
        let expected = [
            ("x-keygate-actor-id", "tester"),
            ("x-keygate-credential-type", "issued"),
            ("x-keygate-key-id", &*id),
            ("x-keygate-scopes", "read:orders x"),
            ("x-keygate-tenant-id", "00000000-0000-0000-0000-000000000000"),
            ("x-request-id", "req-1"),
        ];
        let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(set(&ok.headers), expected);
        let mut removed = ok.headers_to_remove.clone();
        removed.sort_unstable();
        assert_eq!(removed, ["authorization", "x-keygate-admin", "x-keygate_scopes"]);
        let limits = set(&ok.response_headers_to_add);
        assert_eq!(limits.keys().collect::<Vec<_>>(), ["ratelimit", "ratelimit-policy"]);
        assert_eq!(limits["ratelimit-policy"], r#""default";q=9;w=3600"#);
        let text = |name: &str| match metadata[name].kind.as_ref().unwrap() {
            Kind::StringValue(text) => text.clone(),
            Kind::ListValue(list) => format!("{} values", list.values.len()),
            other => panic!("{other:?}"),
        };
        let texts = ["key_id", "actor_id", "tenant_id", "credential_type", "scopes"].map(text);
        let tenant = "00000000-0000-0000-0000-000000000000";
        assert_eq!(texts, [&*id, "tester", tenant, "issued", "2 values"]);
    }
}

#[tokio::test]
async fn each_rejection_is_a_complete_response() {
    let fixture = Fixture::start();
    let mut client = client(&fixture).await;
    let (revoked_id, revoked) = fixture.keygate.issue(json!({})).await;
    let (_, limited) = fixture.keygate.issue(json!({"rate_limit_policy": {"quota": "1", "window": "3600s"}})).await;
    let (_, elsewhere) = fixture.keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}})).await;
    let bearer = |key: &str| format!("Bearer {key}");
    allowed(send(&mut client, check("GET /plain", &[("authorization", &bearer(&revoked))])).await);
    fixture.keygate.revoke(&revoked_id).await;
    allowed(send(&mut client, check("GET /plain", &[("authorization", &bearer(&limited))])).await);
    for (line, key, status, code) in [
        ("GET /plain", "", 401, "credential_missing"),
        ("GET /plain", &*revoked, 401, "credential_revoked"),
        ("GET /plain", "unknown", 401, "credential_invalid"),
        ("GET /plain", &elsewhere, 403, "address_not_allowed"),
        ("GET /orders", &limited, 403, "scope_insufficient"),
        ("GET /plain", &limited, 429, "quota_exceeded"),
        ("GET /nowhere", &limited, 404, "route_not_found"),
        ("GET orders", &limited, 400, "request_invalid"),
    ] {
        let bearer = bearer(key);
        let fields = if key.is_empty() { vec![] } else { vec![("authorization", &*bearer)] };
        let (found, found_code, fields) = denied(send(&mut client, check(line, &fields)).await);
        assert_eq!((found, &*found_code), (status, code), "{line}");
        assert_eq!(fields.contains_key("retry-after"), status == 429, "{line} {fields:?}");
        assert_eq!(
            fields.contains_key("www-authenticate"),
            status == 401 || code == "scope_insufficient",
            "{fields:?}"
        );
        assert!(fields.contains_key("x-request-id") && !fields.contains_key("content-length"), "{fields:?}");
    }
}

#[tokio::test]
async fn anonymous_request_passes_without_forged_identity() {
    let fixture = Fixture::start();
    let mut client = client(&fixture).await;
    let forged = [("x-keygate-actor-id", "root"), ("x-keygate-actor-id", "admin"), ("x-keygate-key-id", "1")];
    for line in ["GET /maybe", "POST /open"] {
        let response = send(&mut client, raw(line, &forged)).await;
        assert_eq!(response.dynamic_metadata, None);
        let ok = allowed(response);
        assert_eq!(set(&ok.headers).into_keys().collect::<Vec<_>>(), ["x-request-id"]);
        let mut removed = ok.headers_to_remove;
        removed.sort_unstable();
        assert_eq!(removed, ["x-keygate-actor-id", "x-keygate-key-id"], "{line}");
    }
}

#[tokio::test]
async fn duplicates_and_incomplete_checks_are_rejected() {
    let fixture = Fixture::start();
    let mut client = client(&fixture).await;
    let (_, key) = fixture.keygate.issue(json!({})).await;
    let bearer = format!("Bearer {key}");
    let two = raw("GET /plain", &[("authorization", &bearer), ("authorization", "Bearer other")]);
    assert_eq!(denied(send(&mut client, two).await).0, 400);
    let invalid = raw("GET /open", &[("a b", "c")]);
    let hosts = raw("GET /open", &[("host", "a"), ("host", "a")]);
    let mut no_host = check("GET /open", &[]);
    no_host.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap().host.clear();
    let mut no_request = check("GET /open", &[]);
    no_request.attributes.as_mut().unwrap().request = None;
    for incomplete in [invalid, hosts, no_host, no_request, CheckRequest::default()] {
        let (status, code, _) = denied(send(&mut client, incomplete.clone()).await);
        assert_eq!((status, &*code), (400, "request_invalid"), "{incomplete:?}");
    }
}

#[tokio::test]
async fn untrusted_peer_is_refused() {
    let fixture = Fixture::with(&json!({"external_auth": {"trusted_peers": ["10.0.0.0/8"]}}));
    let mut client = client(&fixture).await;
    let status = client.check(check("GET /open", &[])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
}
