//! The description of Keygate's own operations: the served, printed and committed ones are equal and match the responses.

use std::collections::BTreeSet;

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{assert_described, closed};
use crate::admin_auth::serve;
use crate::support::admin::AdminResponse;
use crate::support::keygate::{Keygate, command};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/openapi-keygate.json");
const FORM: &str = "application/x-www-form-urlencoded";

fn committed_text() -> String {
    std::fs::read_to_string(COMMITTED).unwrap()
}

fn committed() -> Value {
    serde_json::from_str(&committed_text()).unwrap()
}

/// The operations of a description, such as `get /keygate/v1/keys`.
fn operations(description: &Value) -> BTreeSet<String> {
    let paths = description["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect()
}

/// Calls of all operations: method and path in the description, value of `{key_id}`, query, body and expected status. Later ones see what
/// earlier ones did.
const CALLS: [(&str, &str, &str, &str, u16); 46] = [
    ("get /keygate/v1/keys", "", "", "", 200),
    ("get /keygate/v1/keys", "", "?page_size=1&never_used=true", "", 200),
    ("get /keygate/v1/keys", "", "?kind=other", "", 400),
    ("get /keygate/v1/keys:countInactive", "", "", "", 200),
    ("get /keygate/v1/keys:countInactive", "", "?any_prefix=a&name_prefix=a", "", 400),
    ("get /keygate/v1/keys/{key_id}/usage", "{issued}", "", "", 200),
    ("get /keygate/v1/keys/{key_id}/usage", "{issued}", "?step=day", "", 200),
    ("get /keygate/v1/keys/{key_id}/usage", "{issued}", "?step=week", "", 400),
    ("get /keygate/v1/keys/{key_id}/usage", "unknown", "", "", 404),
    ("get /keygate/v1/keys/{key_id}/rateLimit", "{issued}", "", "", 200),
    ("get /keygate/v1/keys/{key_id}/rateLimit", "{imported}", "", "", 200),
    ("get /keygate/v1/keys/{key_id}/rateLimit", "unknown", "", "", 404),
    ("get /keygate/v1/topKeys", "", "", "", 200),
    ("get /keygate/v1/auditEvents", "", "", "", 200),
    ("get /keygate/v1/auditEvents", "", "?page_size=1&operation=issue&order=asc", "", 200),
    ("get /keygate/v1/auditEvents", "", "?from=yesterday", "", 400),
    ("get /keygate/v1/auditChain", "", "", "", 200),
    ("post /keygate/v1/introspect", "", "", "token={secret}&charge=true", 200),
    ("post /keygate/v1/introspect", "", "", "token={token}", 200),
    ("post /keygate/v1/introspect", "", "", "token=unknown", 200),
    ("post /keygate/v1/introspect", "", "", "charge=true", 400),
    ("post /keygate/v1/explain", "", "", r#"{"credential":"{secret}","url":"/orders"}"#, 200),
    ("post /keygate/v1/explain", "", "", r#"{"credential":"{secret}"}"#, 200),
    ("post /keygate/v1/explain", "", "", r#"{"credential":"unknown"}"#, 200),
    ("post /keygate/v1/explain", "", "", r#"{"key_id":"{imported}"}"#, 200),
    ("post /keygate/v1/explain", "", "", "[]", 400),
    ("post /keygate/v1/adminKeys", "", "", r#"{"name":"n","roles":["read","verify"],"actors":["a/"],"ttl":"1h"}"#, 201),
    (
        "post /keygate/v1/adminKeys",
        "",
        "",
        r#"{"name":"n","roles":["read"],"request_id":"r","rate_limit_policy":{"quota":5,"window":"1s"},
            "ip_restriction":{"allowed_cidrs":["127.0.0.0/8"]}}"#,
        201,
    ),
    ("post /keygate/v1/adminKeys", "", "", r#"{"name":"n","roles":["owner"]}"#, 400),
    ("get /keygate/v1/adminKeys", "", "", "", 200),
    ("get /keygate/v1/adminKeys", "", "?page_size=1001", "", 400),
    ("get /keygate/v1/adminKeys/{key_id}", "{admin}", "", "", 200),
    ("get /keygate/v1/adminKeys/{key_id}", "unknown", "", "", 404),
    ("post /keygate/v1/adminKeys/{key_id}:rotate", "{admin}", "", "", 201),
    ("post /keygate/v1/adminKeys/{key_id}:rotate", "{admin}", "", "", 409),
    (
        "post /keygate/v1/adminKeys/{key_id}:revoke",
        "{other_admin}",
        "",
        r#"{"reason":"REVOCATION_REASON_SUPERSEDED"}"#,
        204,
    ),
    ("post /keygate/v1/adminKeys/{key_id}:revoke", "unknown", "", "", 404),
    ("get /keygate/v1/adminKeys/{key_id}", "{other_admin}", "", "", 200),
    ("get /keygate/v1/caller", "", "", "", 200),
    ("get /keygate/v1/nodes", "", "", "", 200),
    ("get /keygate/v1/overview", "", "", "", 200),
    ("get /keygate/v1/config", "", "", "", 200),
    ("get /openapi.json", "", "", "", 200),
    ("get /openapi-keygate.json", "", "", "", 200),
    ("get /version", "", "", "", 200),
    ("get /health/alive", "", "", "", 200),
];

#[tokio::test]
async fn served_and_printed_description_is_the_committed_file() {
    let committed = committed_text();
    let printed = command().args(["config", "openapi", "--keygate"]).output().unwrap();
    assert!(
        String::from_utf8(printed.stdout).unwrap() == committed,
        "config/openapi-keygate.json is stale: \
         cargo run -q --all-features -- config openapi --keygate > config/openapi-keygate.json"
    );
    let keygate = Keygate::dev(&["--ephemeral"]);
    let request = keygate.http.get(format!("{}/openapi-keygate.json", keygate.admin));
    let served = keygate.with_admin_key(request).send().await.unwrap();
    assert_eq!(served.headers()[CONTENT_TYPE], "application/json");
    assert!(served.text().await.unwrap() == committed, "/openapi-keygate.json is not config/openapi-keygate.json");
}

/// Makes a call, with a form if the body is one.
async fn call(keygate: &Keygate, key: &str, line: &str, body: String) -> AdminResponse {
    let (method, path) = line.split_once(' ').unwrap();
    let request = keygate.http.request(method.to_uppercase().parse().unwrap(), format!("{}{path}", keygate.admin));
    let request = if path.ends_with("/introspect") { request.header(CONTENT_TYPE, FORM) } else { request };
    let request = if key.is_empty() { request } else { request.bearer_auth(key) };
    let response = request.body(body).send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    AdminResponse { status, body }
}

#[tokio::test]
async fn responses_match_the_description() {
    let keygate = serve(&json!({}));
    let policy = json!({"quota": 7, "window": "60s"});
    let (issued, secret) = keygate.issue(json!({"rate_limit_policy": policy, "metadata": {"m": 1}})).await;
    let (revoked, _) = keygate.issue(json!({})).await;
    keygate.revoke(&revoked).await;
    let imported = keygate.import(json!({"raw_key": "raw"})).await;
    let derive = json!({"credential": secret, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    let token = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &derive).await;
    let (admin, _) = keygate.admin_key(json!({"roles": ["read"]})).await;
    let (other_admin, _) = keygate.admin_key(json!({"roles": ["read"]})).await;
    let names = [
        ("{issued}", issued),
        ("{imported}", imported),
        ("{secret}", secret),
        ("{token}", token.text("/token/token")),
        ("{admin}", admin),
        ("{other_admin}", other_admin),
    ];
    let fill = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let description = closed(committed());
    let mut called = BTreeSet::new();
    for (operation, id, query, body, expected) in CALLS {
        let line = format!("{}{query}", fill(&operation.replace("{key_id}", id)));
        let response = call(&keygate, &keygate.admin_key, &line, fill(body)).await;
        assert_eq!(response.status, expected, "{operation}{query} {body}: {response:?}");
        assert_described(&description, operation, &response);
        called.insert(operation.to_owned());
        let public = description["paths"][operation.split_once(' ').unwrap().1]["get"]["security"] == json!([]);
        let response = call(&keygate, "", &line, fill(body)).await;
        assert_eq!(response.status == 401, !public, "{operation}: {response:?}");
        assert_described(&description, operation, &response);
    }
    // It may not be ready yet.
    let ready = call(&keygate, "", "get /health/ready", String::new()).await;
    assert_described(&description, "get /health/ready", &ready);
    called.insert("get /health/ready".into());
    assert_eq!(called, operations(&description));
}
