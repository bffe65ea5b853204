//! No credential and no secret in any log line, error body or metric, whatever happens, at debug level.

use serde_json::json;

use crate::support::keygate::{HMAC_SECRET, Keygate};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn nothing_secret_is_ever_written() {
    let upstream = Upstream::start();
    let gateway = json!({
        "routes": [
            {"name": "plain", "path_prefix": "/plain", "upstream": "api"},
            {"name": "scoped", "path_prefix": "/scoped", "upstream": "api", "scopes": ["admin"]},
            {"name": "dead", "path_prefix": "/dead", "upstream": "dead"}
        ],
        "upstreams": {
            "api": {"endpoints": [upstream.url], "read_timeout": "500ms"},
            "dead": {"endpoints": [format!("http://127.0.0.1:{}", crate::support::free_port())]}
        }
    });
    let keygate = Keygate::serve(&gateway, &json!({"log": {"level": "debug"}}));
    let (_, good) = keygate.issue(json!({})).await;
    let (id, revoked) = keygate.issue(json!({})).await;
    let (_, bound) = keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}})).await;
    keygate.revoke(&id).await;
    let imported = "sk_live_a-secret-of-somebody-else";
    let jwt = "eyJhbGciOiJub25lIn0.eyJhIjoic2VjcmV0In0.c2lnbmF0dXJl";
    let forged = format!("{}x", &good[..good.len() - 1]);
    let secrets = [&good, &revoked, &bound, imported, jwt, &forged, HMAC_SECRET];

    let mut texts = Vec::new();
    for secret in &secrets[..6] {
        for path in ["/plain", "/plain/slow", "/scoped", "/dead", "/nowhere", "/plain%00", "/plain?key=x"] {
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
    let log = keygate.log();
    for outcome in
        ["credential_revoked", "credential_invalid", "upstream_unreachable", "upstream_timeout", "route_not_found"]
    {
        assert!(log.contains(outcome), "the test did not drive {outcome}");
    }
    texts.push(log);
    for text in &texts {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(!text.contains(&good[12..60]), "a part of a key in {text}");
    }
}
