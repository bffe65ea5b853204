//! No log line at debug level, error body or metric contains a credential or a secret.

use serde_json::json;

use crate::support::keygate::{HMAC_SECRET, Keygate};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn credentials_are_not_in_logs_errors_or_metrics_of_the_gateway() {
    let upstream = Upstream::start();
    let gateway = json!({
        "routes": [
            {"name": "plain", "path_prefix": "/plain", "upstream": "api"},
            {"name": "scoped", "path_prefix": "/scoped", "upstream": "api", "scopes": ["admin"]},
            {"name": "dead", "path_prefix": "/dead", "upstream": "dead"}
        ],
        "upstreams": {
            "api": {"endpoints": [upstream.url], "read_timeout": "500ms"},
            "dead": {"endpoints": [format!("http://127.0.0.1:{}", keygate_test_servers::free_port())]}
        }
    });
    let mut keygate = Keygate::serve(&gateway, &json!({"log": {"level": "debug"}}));
    let (_, valid) = keygate.issue(json!({})).await;
    let (id, revoked) = keygate.issue(json!({})).await;
    let (_, restricted) = keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}})).await;
    keygate.revoke(&id).await;
    let imported = "sk_live_unknown-secret";
    let jwt = "eyJhbGciOiJub25lIn0.eyJhIjoic2VjcmV0In0.c2lnbmF0dXJl";
    let forged = format!("{}x", &valid[..valid.len() - 1]);
    let secrets = [&valid, &revoked, &restricted, imported, jwt, &forged, HMAC_SECRET];

    let mut texts = Vec::new();
    for secret in &secrets[..6] {
        for path in ["/plain", "/plain/held", "/scoped", "/dead", "/nowhere", "/plain%00", "/plain?key=x"] {
            texts.push(keygate.call(path, secret).await.text().await.unwrap());
        }
        let both =
            keygate.http.get(format!("{}/plain", keygate.gateway)).bearer_auth(secret).header("x-api-key", "x y");
        texts.push(both.send().await.unwrap().text().await.unwrap());
        for body in [
            json!({"credential": secret}),
            json!({"credential": [secret]}),
            json!({"name": 1, "actor_id": secret, "ttl": secret}),
        ] {
            for operation in
                ["apiKeys:verify", "issuedApiKeys", "issuedApiKeys/x:revoke", &format!("issuedApiKeys/{id}:nonsense")]
            {
                texts.push(keygate.post(operation, &body).await.text().await.unwrap());
            }
        }
        let broken =
            keygate.http.post(format!("{}/v2alpha1/admin/apiKeys:verify", keygate.admin)).body(format!("{{\"{secret}"));
        texts.push(broken.send().await.unwrap().text().await.unwrap());
    }
    texts.push(keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap());
    let log = keygate.whole_log();
    for outcome in
        ["credential_revoked", "credential_invalid", "upstream_unreachable", "upstream_timeout", "route_not_found"]
    {
        assert!(log.contains(outcome), "the test did not cause {outcome}");
    }
    texts.push(log);
    for text in &texts {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(!text.contains(&valid[12..60]), "a part of a key in {text}");
    }
}

/// Secrets in every field of admin calls in which a caller may put them by mistake.
#[tokio::test]
async fn secrets_sent_to_the_admin_api_are_not_in_logs_errors_or_metrics() {
    let mut keygate = Keygate::serve_admin(&json!({"log": {"level": "debug"}}));
    let (id, key) = keygate.issue(json!({"scopes": ["read"]})).await;
    let raw_key = "sk_live_imported-secret";
    let imported = keygate.import(json!({"raw_key": raw_key})).await;
    let derive = |form: &str| json!({"credential": key, "algorithm": format!("TOKEN_ALGORITHM_{form}")});
    let jwt = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &derive("JWT")).await.text("/token/token");
    let macaroon =
        keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &derive("MACAROON")).await.text("/token/token");
    keygate.issue(json!({})).await;
    let page_token = keygate.page("issued", "page_size=1", "").await.text("/next_page_token");
    let rotated = keygate.send(&format!("POST /v2alpha1/admin/issuedApiKeys/{id}:rotate"), "").await;
    let new_key = rotated.text("/secret");
    let presented = [key.as_str(), raw_key, &jwt, &macaroon, &page_token, &new_key];
    // The private member of the signing key in the configuration.
    let signing_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let secrets: Vec<&str> = presented.into_iter().chain([HMAC_SECRET, signing_key]).collect();

    let mut texts = Vec::new();
    for secret in presented {
        for (line, body) in misplaced(secret, &id, &imported) {
            let response = keygate.send(&line, body).await;
            // A successful response may contain the secret.
            if response.status >= 400 {
                texts.push(response.body.to_string());
            }
        }
    }
    assert!(texts.len() > 100, "most calls must fail: {}", texts.len());
    let jwks = keygate.send("GET /v2alpha1/derivedKeys/jwks.json", "").await;
    assert_eq!(jwks.status, 200);
    texts.push(jwks.body.to_string());
    for url in [format!("{}/metrics", keygate.metrics), format!("{}/version", keygate.admin)] {
        texts.push(keygate.http.get(url).send().await.unwrap().text().await.unwrap());
    }
    let log = keygate.whole_log();
    for event in ["issued", "imported", "rotated", "token derived", "HTTP request completed"] {
        assert!(log.contains(event), "the test did not cause {event}");
    }
    texts.extend(log.lines().map(str::to_owned));
    for text in &texts {
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// Calls with a secret in its own field and in others.
fn misplaced(secret: &str, id: &str, imported: &str) -> Vec<(String, String)> {
    let admin = "/v2alpha1/admin";
    let quoted = json!(secret).to_string();
    let mut calls = vec![
        (format!("POST {admin}/apiKeys:verify"), format!("{{\"credential\":{quoted},\"expected_audiences\":[\"\"]}}")),
        (format!("POST {admin}/apiKeys:verify"), format!("{{\"credential\":{{{quoted}:1}}}}")),
        (format!("POST {admin}/apiKeys:verify"), format!("{{\"credential\":{quoted}")),
        (format!("POST {admin}/apiKeys:batchVerify"), format!("{{\"requests\":[{{\"credential\":{quoted}}},{{}}]}}")),
        (format!("POST {admin}/apiKeys:batchVerify"), format!("{{\"requests\":[{quoted}]}}")),
        (format!("POST {admin}/apiKeys:derive"), format!("{{\"credential\":{quoted},\"ttl\":\"9999y\"}}")),
        (format!("POST {admin}/apiKeys:derive"), format!("{{\"credential\":{quoted},\"scopes\":[\"other\"]}}")),
        ("POST /v2alpha1/apiKeys:selfRevoke".into(), format!("{{\"credential\":{quoted},\"reason\":4}}")),
        ("POST /v2alpha1/apiKeys:selfRevoke".into(), format!("{{\"credential\":[{quoted}]}}")),
        (format!("POST {admin}/importedApiKeys"), format!("{{\"raw_key\":{quoted}}}")),
        (format!("POST {admin}/importedApiKeys"), format!("{{\"raw_key\":[{quoted}],\"name\":\"n\"}}")),
        (format!("POST {admin}/importedApiKeys"), format!("{{{quoted}:1,{quoted}:2}}")),
        (format!("POST {admin}/importedApiKeys:batchCreate"), format!("{{\"requests\":[{{\"raw_key\":{quoted}}}]}}")),
        (format!("POST {admin}/importedApiKeys:batchImport"), format!("{{\"requests\":{quoted}}}")),
        (format!("POST {admin}/issuedApiKeys"), format!("{{\"name\":\"n\",\"actor_id\":\"a\",\"ttl\":{quoted}}}")),
        (format!("POST {admin}/issuedApiKeys"), format!("{{\"metadata\":{quoted}}}")),
        (format!("PATCH {admin}/issuedApiKeys/{id}"), format!("{{\"scopes\":{quoted}}}")),
        (format!("PATCH {admin}/importedApiKeys/{imported}"), format!("{{\"rate_limit_policy\":{quoted}}}")),
        (format!("POST {admin}/issuedApiKeys/{id}:revoke"), format!("{{\"description\":{quoted}}}")),
        (format!("POST {admin}/importedApiKeys/{imported}:revoke"), format!("{{\"reason\":[{quoted}]}}")),
        (format!("GET {admin}/issuedApiKeys?page_token={secret}x"), String::new()),
        (format!("GET {admin}/importedApiKeys?page_token={secret}"), String::new()),
        (format!("GET {admin}/issuedApiKeys?page_size={secret}"), String::new()),
        (format!("GET {admin}/importedApiKeys?filter={secret}"), String::new()),
    ];
    // The key in place of its id.
    for line in [
        "GET issuedApiKeys/{}",
        "GET importedApiKeys/{}",
        "PATCH issuedApiKeys/{}",
        "PATCH importedApiKeys/{}",
        "DELETE importedApiKeys/{}",
        "POST issuedApiKeys/{}:revoke",
        "POST issuedApiKeys/{}:rotate",
        "POST issuedApiKeys/{}:nonsense",
        "POST importedApiKeys/{}:revoke",
        "POST apiKeys/{}:revoke",
    ] {
        let (method, path) = line.split_once(' ').unwrap();
        calls.push((format!("{method} {admin}/{}", path.replace("{}", secret)), "{}".into()));
    }
    calls
}
