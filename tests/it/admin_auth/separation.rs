//! Admin keys and ordinary keys are never taken for each other.

use serde_json::json;

use super::{BOOTSTRAP, serve};

const ADMIN: &str = "/v2alpha1/admin";

#[tokio::test]
async fn admin_keys_are_no_ordinary_keys() {
    let keygate = serve(&json!({}));
    let (id, secret) = keygate.admin_key(json!({"roles": ["read", "verify", "manage", "admin"]})).await;
    for key in [&secret[..], BOOTSTRAP] {
        assert_eq!(keygate.call("/", key).await.status(), 401, "the gateway");
        let credential = json!({"credential": key}).to_string();
        let verified = keygate.send(&format!("POST {ADMIN}/apiKeys:verify"), credential.clone()).await;
        assert_eq!(verified.text("/error_code"), "VERIFICATION_ERROR_NOT_FOUND");
        let introspect = keygate.http.post(format!("{}/keygate/v1/introspect", keygate.admin)).bearer_auth(BOOTSTRAP);
        let introspect =
            introspect.header("content-type", "application/x-www-form-urlencoded").body(format!("token={key}"));
        assert_eq!(introspect.send().await.unwrap().text().await.unwrap(), r#"{"active":false}"#);
        assert_eq!(keygate.send(&format!("POST {ADMIN}/apiKeys:derive"), credential.clone()).await.status, 401);
        assert_eq!(keygate.send("POST /v2alpha1/apiKeys:selfRevoke", credential).await.status, 404);
    }
    for operation in [
        format!("GET {ADMIN}/issuedApiKeys/{id}"),
        format!("PATCH {ADMIN}/issuedApiKeys/{id}"),
        format!("POST {ADMIN}/issuedApiKeys/{id}:rotate"),
        format!("POST {ADMIN}/issuedApiKeys/{id}:revoke"),
        format!("POST {ADMIN}/apiKeys/{id}:revoke"),
    ] {
        assert_eq!(keygate.send(&operation, "{}").await.status, 404, "{operation}");
    }
    assert_eq!(keygate.list("issued", "").await, Vec::<serde_json::Value>::new());
    let import = json!({"name": "n", "actor_id": "a", "raw_key": secret}).to_string();
    assert_eq!(keygate.send(&format!("POST {ADMIN}/importedApiKeys"), import).await.status, 409);
    assert_eq!(keygate.send_as(&secret, "GET /keygate/v1/adminKeys", "").await.status, 200, "it is still active");
}

#[tokio::test]
async fn ordinary_keys_are_no_admin_keys_whatever_their_scopes() {
    let keygate = serve(&json!({}));
    let scopes = json!(["read", "verify", "manage", "admin"]);
    let (id, secret) = keygate.issue(json!({"scopes": scopes, "actor_id": "admin"})).await;
    keygate.import(json!({"scopes": scopes, "raw_key": "an-imported-key"})).await;
    let body = json!({"credential": secret}).to_string();
    let token = keygate.send(&format!("POST {ADMIN}/apiKeys:derive"), body).await.text("/token/token");
    // The checksum covers the prefix.
    let forged = secret.replacen("ory_ak_", "kg_admin_", 1);
    for key in [&secret[..], "an-imported-key", &token, &forged] {
        let response = keygate.send_as(key, &format!("GET {ADMIN}/issuedApiKeys"), "").await;
        assert_eq!((response.status, response.message()), (401, "the admin key is not valid"), "{key}");
    }
    assert_eq!(keygate.send(&format!("GET /keygate/v1/adminKeys/{id}"), "").await.status, 404);
    assert_eq!(keygate.send("GET /keygate/v1/adminKeys", "").await.body["admin_keys"], json!([]));
}
