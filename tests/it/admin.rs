//! The admin API over plain HTTP: response bodies, errors, limits, idempotency.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::keygate::Keygate;
use keygate_test_servers::eventually;

async fn status_and_body(keygate: &Keygate, path: &str, body: &str) -> (u16, Value) {
    let url = format!("{}/v2alpha1/admin/{path}", keygate.admin);
    let response = keygate.with_admin_key(keygate.http.post(url)).body(body.to_owned()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

fn reason(body: &Value) -> &str {
    body["error"]["details"][0]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn issued_key_has_every_field_of_the_contract() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (status, body) = status_and_body(
        &keygate,
        "issuedApiKeys",
        r#"{"name":"n","actorId":"a","scopes":["x","x"],"ttl":"1h","metadata":{"ttl":"1d","big":9007199254740993},
            "rateLimitPolicy":{"quota":100,"window":"60s"},"ip_restriction":{"allowedCidrs":["10.1.2.3/8"]},"unknown":{"a":1}}"#,
    )
    .await;
    assert_eq!(status, 201);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f-]{27}", "[uuid]");
    settings.add_filter(r"20\d\d-[0-9T:.-]+Z", "[time]");
    settings.add_filter(r"ory_ak_v1_\w+", "[secret]");
    settings.bind(|| insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap()));
}

#[tokio::test]
async fn bad_input_is_rejected_with_400_and_nothing_is_stored() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let long = "x".repeat(256);
    for body in [
        "{",
        "[]",
        "null x",
        r#"{"name":"n"}"#,
        r#"{"name":1,"actor_id":"a"}"#,
        r#"{"name":"n","name":"n","actor_id":"a"}"#,
        r#"{"name":"n","actor_id":"a","actorId":"a"}"#,
        &format!(r#"{{"name":"{long}","actor_id":"a"}}"#),
        r#"{"name":"n\u0000","actor_id":"a"}"#,
        r#"{"name":"n","actor_id":"a","ttl":"0"}"#,
        r#"{"name":"n","actor_id":"a","ttl":"0s"}"#,
        r#"{"name":"n","actor_id":"a","ttl":"500ms"}"#,
        r#"{"name":"n","actor_id":"a","ttl":"2y"}"#,
        r#"{"name":"n","actor_id":"a","ttl":3600}"#,
        r#"{"name":"n","actor_id":"a","metadata":[]}"#,
        r#"{"name":"n","actor_id":"a","visibility":"KEY_VISIBILITY_PUBLIC"}"#,
        r#"{"name":"n","actor_id":"a","rate_limit_policy":{"quota":0,"window":"60s"}}"#,
        r#"{"name":"n","actor_id":"a","rate_limit_policy":{"quota":1}}"#,
        r#"{"name":"n","actor_id":"a","rate_limit_policy":{"quota":1,"window":"1m"}}"#,
        r#"{"name":"n","actor_id":"a","rate_limit_policy":{"quota":1,"window":"1.5s"}}"#,
        r#"{"name":"n","actor_id":"a","rate_limit_policy":{"quota":1,"window":"1s","unit":"bytes"}}"#,
        r#"{"name":"n","actor_id":"a","ip_restriction":{"allowed_cidrs":["10.0.0.1"]}}"#,
        r#"{"name":"n","actor_id":"a","request_id":"1234567890123456789012345678901234567"}"#,
        &format!(r#"{{"name":"n","actor_id":"a","scopes":{}}}"#, json!(vec!["s"; 10_000])),
        &format!(r#"{{"name":"n","actor_id":"a","metadata":{}{}}}"#, r#"{"a":"#.repeat(1000), "}".repeat(1000)),
    ] {
        let (status, response) = status_and_body(&keygate, "issuedApiKeys", body).await;
        assert_eq!((status, reason(&response)), (400, "BAD_REQUEST"), "{body:.200}");
    }
    let metrics = keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("talos_keys_created_total 2\n"), "only the demo key and the admin key were created");
}

#[tokio::test]
async fn body_over_the_size_limit_is_rejected_with_429() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(5 << 20));
    let (status, response) = status_and_body(&keygate, "issuedApiKeys", &body).await;
    assert_eq!((status, reason(&response)), (429, "TOO_MANY_REQUESTS"));
    assert_eq!(response["error"]["message"], "request body exceeds maximum allowed size of 4194304 bytes");
}

#[tokio::test]
async fn unknown_resources_and_operations_are_404_with_an_error_body() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    for (method, path, expected) in [
        ("GET", "/v2alpha1/admin/issuedApiKeys/none", "API_KEY_NOT_FOUND"),
        (
            "GET",
            "/v2alpha1/admin/issuedApiKeys/fac39ef9ebe858148631f90d6286e472593a2076af5b81c3d88bcfb82add4ab2",
            "API_KEY_NOT_FOUND",
        ),
        ("POST", "/v2alpha1/admin/issuedApiKeys/none:revoke", "API_KEY_NOT_FOUND"),
        ("POST", "/v2alpha1/admin/issuedApiKeys/none:nonsense", "NOT_FOUND"),
        ("DELETE", "/v2alpha1/admin/issuedApiKeys/none", "NOT_FOUND"),
        ("PUT", "/v2alpha1/admin/apiKeys:verify", "NOT_FOUND"),
        ("OPTIONS", "/v2alpha1/admin/issuedApiKeys", "NOT_FOUND"),
        ("POST", "/version", "NOT_FOUND"),
        ("GET", "/nothing", "NOT_FOUND"),
    ] {
        let request = keygate.http.request(method.parse().unwrap(), format!("{}{path}", keygate.admin));
        let response = keygate.with_admin_key(request).header("x-request-id", "r-1").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(response.headers()["x-request-id"], "r-1");
        assert_eq!(response.headers()["x-frame-options"], "DENY");
        assert!(!response.headers().contains_key("allow"));
        assert_eq!(reason(&response.json().await.unwrap()), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn repeated_request_id_returns_the_first_key_and_its_secret_once() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let body = json!({"name": "n", "actor_id": "a", "request_id": "once"});
    let calls = (0..16).map(|_| keygate.post("issuedApiKeys", &body));
    let mut ids = std::collections::BTreeSet::new();
    let mut secrets = 0;
    for call in calls {
        let response = call.await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let response: Value = response.json().await.unwrap();
        let id = response["issued_api_key"]["key_id"].as_str().unwrap().to_owned();
        assert_eq!(location, format!("/v2alpha1/admin/issuedApiKeys/{id}"));
        secrets += usize::from(response["secret"] != "");
        ids.insert(id);
    }
    assert_eq!((ids.len(), secrets), (1, 1));
}

#[tokio::test]
async fn revocation_checks_its_arguments_and_happens_once() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, _) = keygate.issue(json!({})).await;
    let path = format!("issuedApiKeys/{id}:revoke");
    let (status, response) = status_and_body(&keygate, &path, r#"{"reason":1,"description":"x"}"#).await;
    assert_eq!(
        (status, &response["error"]["message"]),
        (400, &"description is only allowed when reason is PRIVILEGE_WITHDRAWN".into())
    );
    assert_eq!(status_and_body(&keygate, &path, "").await.0, 204);
    let (status, response) = status_and_body(&keygate, &path, "{}").await;
    assert_eq!((status, reason(&response), &response["error"]["status"]), (409, "CONFLICT", &"ALREADY_EXISTS".into()));
    let key = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await.body;
    assert_eq!(key["status"], "KEY_STATUS_REVOKED");
    assert!(key.get("revocation_reason").is_none());
}

#[tokio::test]
async fn verification_returns_the_error_code_and_the_cache_outcome() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (_, key) = keygate.issue(json!({"rate_limit_policy": {"quota": 5, "window": "60s"}})).await;
    let (expired_id, expired) = keygate.issue(json!({"ttl": "1s"})).await;
    let (_, bound) = keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}})).await;
    keygate.wait_until_expired(&expired_id).await;
    let verify = |credential: &str, audiences: Value, directive: &str| {
        let body = json!({"credential": credential, "expected_audiences": audiences}).to_string();
        let url = format!("{}/v2alpha1/admin/apiKeys:verify", keygate.admin);
        keygate.with_admin_key(keygate.http.post(url)).header("cache-control", directive).body(body).send()
    };
    for (credential, audiences, directive, code, cache) in [
        (key.as_str(), json!([]), "max-age=0", "", "MISS"),
        (&key, json!([]), "max-age=0", "", "HIT"),
        (&key, json!([]), "max-age=0, No-Cache", "", "SKIP"),
        (&key, json!([]), "no-store", "", "SKIP"),
        (&key, json!(["api"]), "x", "VERIFICATION_ERROR_AUDIENCE_MISMATCH", "HIT"),
        (&expired, json!([]), "x", "VERIFICATION_ERROR_EXPIRED", "MISS"),
        (&bound, json!([]), "x", "VERIFICATION_ERROR_IP_NOT_ALLOWED", "MISS"),
        ("unknown", json!([]), "x", "VERIFICATION_ERROR_NOT_FOUND", "MISS"),
        ("unknown", json!([]), "x", "VERIFICATION_ERROR_NOT_FOUND", "HIT"),
        ("mc_v1_AgEX", json!([]), "x", "VERIFICATION_ERROR_SIGNATURE_INVALID", "SKIP"),
        (&key[..key.len() - 1], json!([]), "x", "VERIFICATION_ERROR_NOT_FOUND", "SKIP"),
    ] {
        let response = verify(credential, audiences, directive).await.unwrap();
        assert_eq!(response.headers()["ory-talos-cache"], cache, "{code} {directive}");
        if code.is_empty() {
            assert_eq!(response.headers()["ratelimit-policy"], r#""default";q=5;w=60"#);
        }
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error_code"].as_str().unwrap_or_default(), code);
        assert_eq!(body["is_valid"], code.is_empty());
    }
    for credential in ["", &"x".repeat(8193)] {
        assert_eq!(verify(credential, json!([]), "x").await.unwrap().status(), StatusCode::BAD_REQUEST);
    }
}

/// The log line of a change, and that of the access log, with this request id.
fn lines_with_request_id(log: &str, request_id: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.to_string().contains(&format!("\"{request_id}\""))).collect()
}

#[tokio::test]
async fn a_change_is_logged_with_the_principal_and_the_request_id_of_the_response() {
    let keygate = Keygate::serve_admin(&json!({}));
    let url = |path: &str| format!("{}/v2alpha1/{path}", keygate.admin);
    let issue = keygate.http.post(url("admin/issuedApiKeys")).body(r#"{"name":"n","actor_id":"a"}"#);
    let issued = issue.send().await.unwrap();
    let generated = issued.headers()["x-request-id"].to_str().unwrap().to_owned();
    let issued: Value = issued.json().await.unwrap();
    let body = json!({"credential": issued["secret"]}).to_string();
    let revoke = keygate.http.post(url("apiKeys:selfRevoke")).header("x-request-id", "id with spaces").body(body);
    let revoked = revoke.send().await.unwrap();
    assert_eq!(
        (revoked.status(), &revoked.headers()["x-request-id"]),
        (StatusCode::OK, &"id with spaces".parse().unwrap())
    );
    let holder = format!("key:{}", issued["issued_api_key"]["key_id"].as_str().unwrap());
    for (request_id, principal) in [(generated.as_str(), "anonymous"), ("id with spaces", &holder)] {
        // Lines are written within 50 ms.
        eventually("both lines are logged", || lines_with_request_id(&keygate.log(), request_id).len() == 2);
        let lines = lines_with_request_id(&keygate.log(), request_id);
        assert!(lines[0].to_string().contains(&format!("\"principal\":\"{principal}\"")), "{}", lines[0]);
        assert!(lines[1].to_string().contains("HTTP request completed"), "{}", lines[1]);
    }
}
