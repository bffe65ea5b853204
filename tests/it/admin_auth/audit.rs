//! What the audit trail has of administrators.

use serde_json::{Value, json};

use super::serve;
use crate::support::keygate::Keygate;

/// The events of an operation, the latest first.
async fn events(keygate: &Keygate, operation: &str) -> Vec<Value> {
    let page = keygate.send(&format!("GET /keygate/v1/auditEvents?operation={operation}"), "").await;
    page.body["audit_events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn changes_of_an_insider_with_manage_are_in_the_trail_with_its_key_and_roles() {
    let keygate = serve(&json!({}));
    let (insider, secret) = keygate.admin_key(json!({"roles": ["verify", "manage"]})).await;
    let (id, _) = keygate.issue(json!({})).await;
    let path = format!("/v2alpha1/admin/issuedApiKeys/{id}");
    assert_eq!(keygate.send_as(&secret, &format!("POST {path}:revoke"), "{}").await.status, 204);
    let (by_insider, by_owner) = (&events(&keygate, "revoke").await[0], &events(&keygate, "issue").await[0]);
    assert_eq!(by_insider["principal"], format!("admin:{insider}"));
    assert_eq!(by_insider["roles"], json!(["verify", "manage"]));
    assert_eq!((&by_owner["principal"], by_owner["roles"].as_array().unwrap().len()), (&json!("admin:bootstrap"), 4));
    // The key neither reads the trail nor changes it.
    for operation in ["GET /keygate/v1/auditEvents", "GET /keygate/v1/adminKeys"] {
        assert_eq!(keygate.send_as(&secret, operation, "").await.status, 403, "{operation}");
    }
    for operation in ["DELETE /keygate/v1/auditEvents", "PATCH /keygate/v1/auditEvents"] {
        assert_eq!(keygate.send_as(&secret, operation, "{}").await.status, 404, "{operation}");
    }
}

#[tokio::test]
async fn changes_of_admin_keys_are_in_the_trail() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.admin_key(json!({"roles": ["read"]})).await;
    keygate.send(&format!("POST /keygate/v1/adminKeys/{id}:revoke"), "{}").await;
    let revoked = &events(&keygate, "revoke").await[0];
    assert_eq!((&revoked["key_id"], &revoked["principal"]), (&json!(id), &json!("admin:bootstrap")));
}
