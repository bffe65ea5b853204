//! The life of admin keys.

use serde_json::{Value, json};

use super::{ADMIN_KEYS, BOOTSTRAP, UNKNOWN, serve};
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

const LIST: &str = "GET /v2alpha1/admin/issuedApiKeys";

async fn status(keygate: &Keygate, key: &str) -> u16 {
    keygate.send_as(key, LIST, "").await.status
}

#[tokio::test]
async fn admin_key_is_accepted_until_it_is_revoked() {
    let keygate = serve(&json!({}));
    let (id, secret) = keygate.admin_key(json!({"roles": ["read"], "name": "reader"})).await;
    assert!(secret.starts_with("kg_admin_v1_"), "{secret}");
    assert_eq!(status(&keygate, &secret).await, 200);
    let key = keygate.send(&format!("GET /keygate/v1/adminKeys/{id}"), "").await;
    assert_eq!(key.body["roles"], json!(["read"]));
    assert_eq!((key.text("/name"), key.text("/status")), ("reader".into(), "KEY_STATUS_ACTIVE".into()));
    let revoke = format!("POST /keygate/v1/adminKeys/{id}:revoke");
    assert_eq!(keygate.send(&revoke, "").await.status, 204);
    let refused = keygate.send_as(&secret, LIST, "").await;
    assert_eq!((refused.status, refused.message()), (401, "the admin key is revoked"));
    assert_eq!(keygate.send(&revoke, "").await.status, 409);
}

#[tokio::test]
async fn rotated_key_keeps_roles_and_expiry_and_replaces_the_old_one() {
    let keygate = serve(&json!({}));
    let (id, secret) = keygate.admin_key(json!({"roles": ["read"], "actors": ["a/"], "ttl": "2h"})).await;
    let rotated = keygate.send(&format!("POST /keygate/v1/adminKeys/{id}:rotate"), "{}").await;
    assert_eq!(rotated.status, 201, "{rotated:?}");
    assert_eq!(
        (&rotated.body["admin_key"]["roles"], &rotated.body["admin_key"]["actors"]),
        (&json!(["read"]), &json!(["a/"]))
    );
    assert_eq!(rotated.text("/old_admin_key/status"), "KEY_STATUS_REVOKED");
    assert_eq!(status(&keygate, &secret).await, 401);
    assert_eq!(status(&keygate, &rotated.text("/secret")).await, 200);
}

#[tokio::test]
async fn expired_key_is_rejected() {
    let keygate = serve(&json!({}));
    let (_, secret) = keygate.admin_key(json!({"roles": ["read"], "ttl": "1s"})).await;
    wait_for(async || match keygate.send_as(&secret, LIST, "").await {
        response if response.status == 401 => {
            assert_eq!(response.message(), "the admin key has expired");
            Ok(())
        }
        response => Err(format!("{response:?}")),
    })
    .await;
}

#[tokio::test]
async fn address_rule_and_rate_limit_of_an_admin_key_apply() {
    let keygate = serve(&json!({}));
    let elsewhere = json!({"roles": ["read"], "ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}});
    let (_, secret) = keygate.admin_key(elsewhere).await;
    assert_eq!(status(&keygate, &secret).await, 403);
    let limited = json!({"roles": ["read"], "rate_limit_policy": {"quota": 2, "window": "3600s"}});
    let (_, secret) = keygate.admin_key(limited).await;
    assert_eq!([status(&keygate, &secret).await, status(&keygate, &secret).await], [200, 200]);
    let url = format!("{}/v2alpha1/admin/issuedApiKeys", keygate.admin);
    let refused = keygate.http.get(url).bearer_auth(&secret).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"), "{refused:?}");
}

#[tokio::test]
async fn caller_grants_only_what_it_has() {
    let keygate = serve(&json!({}));
    let (admin_id, admin) = keygate.admin_key(json!({"roles": ["admin", "read"]})).await;
    let (manager_id, _) = keygate.admin_key(json!({"roles": ["manage"]})).await;
    let create = async |key: &str, fields: Value| keygate.create_admin_key(key, fields).await;
    assert_eq!(create(&admin, json!({"roles": ["read"]})).await.status, 201);
    let refused = create(&admin, json!({"roles": ["read", "manage"]})).await;
    assert_eq!((refused.status, refused.text("/error/details/0/metadata/required_role")), (403, "manage".into()));
    let rotate = format!("POST /keygate/v1/adminKeys/{manager_id}:rotate");
    assert_eq!(keygate.send_as(&admin, &rotate, "").await.status, 403, "the response would have a secret of its role");
    assert_eq!(keygate.send_as(&admin, &format!("POST /keygate/v1/adminKeys/{admin_id}:rotate"), "").await.status, 201);
}

#[tokio::test]
async fn admin_bound_to_actors_sees_and_grants_only_these() {
    let keygate = serve(&json!({}));
    let bound = json!({"roles": ["admin", "read"], "actors": ["team-a/"]});
    let (bound_id, bound) = keygate.admin_key(bound).await;
    let (foreign_id, _) = keygate.admin_key(json!({"roles": ["read"], "actors": ["team-b/"]})).await;
    for (actors, expected) in
        [(json!(["team-a/"]), 201), (json!(["team-a/x"]), 201), (json!(["team-b/"]), 403), (json!([]), 403)]
    {
        let created = keygate.create_admin_key(&bound, json!({"roles": ["read"], "actors": actors})).await;
        assert_eq!(created.status, expected, "{actors}");
    }
    for verb in ["", ":rotate", ":revoke"] {
        let method = if verb.is_empty() { "GET" } else { "POST" };
        let response = keygate.send_as(&bound, &format!("{method} /keygate/v1/adminKeys/{foreign_id}{verb}"), "").await;
        assert_eq!((response.status, response.reason()), (404, "API_KEY_NOT_FOUND"), "{verb}");
    }
    let listed = keygate.send_as(&bound, "GET /keygate/v1/adminKeys", "").await;
    let ids: Vec<_> = listed.body["admin_keys"].as_array().unwrap().iter().map(|key| key["key_id"].clone()).collect();
    assert!(ids.contains(&json!(bound_id)) && !ids.contains(&json!(foreign_id)) && ids.len() == 3, "{listed:?}");
    let all = keygate.send("GET /keygate/v1/adminKeys", "").await;
    assert_eq!(all.body["admin_keys"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn unusable_requests_are_400_and_unknown_keys_404() {
    let keygate = serve(&json!({}));
    for body in [
        json!({}),
        json!({"name": "n"}),
        json!({"name": "n", "roles": []}),
        json!({"name": "n", "roles": ["owner"]}),
        json!({"name": "", "roles": ["read"]}),
        json!({"name": "n", "roles": ["read"], "actors": [""]}),
        json!({"name": "n", "roles": ["read"], "ttl": "0s"}),
        json!({"name": "n", "roles": ["read"], "ip_restriction": {"allowed_cidrs": ["10.0.0.1"]}}),
    ] {
        assert_eq!(keygate.send_json(ADMIN_KEYS, &body).await.status, 400, "{body}");
    }
    for operation in [
        format!("GET /keygate/v1/adminKeys/{UNKNOWN}"),
        format!("POST /keygate/v1/adminKeys/{UNKNOWN}:rotate"),
        format!("POST /keygate/v1/adminKeys/{UNKNOWN}:revoke"),
        "GET /keygate/v1/adminKeys/none".into(),
    ] {
        let response = keygate.send(&operation, "").await;
        assert_eq!((response.status, response.reason()), (404, "API_KEY_NOT_FOUND"), "{operation}");
    }
    for operation in
        ["PUT /keygate/v1/adminKeys", "POST /keygate/v1/adminKeys/x:nonsense", "HEAD /keygate/v1/adminKeys"]
    {
        assert_eq!(keygate.send(operation, "").await.status, 404, "{operation}");
    }
}

#[tokio::test]
async fn repeated_request_id_returns_the_first_key_without_its_secret() {
    let keygate = serve(&json!({}));
    let fields = json!({"roles": ["read"], "request_id": "once"});
    let (id, _) = keygate.admin_key(fields.clone()).await;
    let repeated = keygate.create_admin_key(BOOTSTRAP, fields).await;
    assert_eq!(
        (repeated.status, repeated.text("/admin_key/key_id"), repeated.text("/secret")),
        (201, id, String::new())
    );
}

#[tokio::test]
async fn changes_are_logged_with_the_admin_key_and_no_key_is_in_the_log() {
    let mut keygate = serve(&json!({"log": {"level": "debug"}}));
    let (id, secret) = keygate.admin_key(json!({"roles": ["manage"]})).await;
    let body = json!({"name": "n", "actor_id": "a"}).to_string();
    assert_eq!(keygate.send_as(&secret, "POST /v2alpha1/admin/issuedApiKeys", body).await.status, 201);
    assert_eq!(keygate.send_as(&format!("{secret}x"), LIST, "").await.status, 401);
    let log = keygate.whole_log();
    assert!(log.contains(&format!("admin:{id}")) && log.contains("admin:bootstrap"), "{log}");
    assert!(log.contains("a bootstrap key is set"), "{log}");
    for text in [&secret[..], BOOTSTRAP] {
        assert!(!log.contains(text), "a key is in the log");
    }
}

#[tokio::test]
async fn last_use_of_an_admin_key_is_recorded() {
    let keygate = serve(&json!({"last_used": {"flush_interval": "10ms"}}));
    let (id, secret) = keygate.admin_key(json!({"roles": ["read"]})).await;
    assert_eq!(status(&keygate, &secret).await, 200);
    wait_for(async || {
        let key = keygate.send(&format!("GET /keygate/v1/adminKeys/{id}"), "").await;
        if key.body["last_used_time"].is_string() { Ok(()) } else { Err(format!("{key:?}")) }
    })
    .await;
}

#[tokio::test]
async fn introspection_accepts_the_key_as_a_basic_password_and_other_operations_do_not() {
    let keygate = serve(&json!({}));
    let (_, verifier) = keygate.admin_key(json!({"roles": ["verify"]})).await;
    let (_, reader) = keygate.admin_key(json!({"roles": ["read"]})).await;
    let (_, key) = keygate.issue(json!({})).await;
    let form = "application/x-www-form-urlencoded";
    let introspect = async |password: &str| {
        let request = keygate.http.post(format!("{}/keygate/v1/introspect", keygate.admin));
        let request = request.basic_auth("resource-server", Some(password)).header("content-type", form);
        let response = request.body(format!("token={key}")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, body) = introspect(&verifier).await;
    assert!(status == 200 && body.contains("\"active\":true"), "{status} {body}");
    assert_eq!(introspect(&reader).await.0, 403);
    assert_eq!(introspect("wrong").await.0, 401);
    let list = keygate.http.get(format!("{}/v2alpha1/admin/issuedApiKeys", keygate.admin));
    assert_eq!(list.basic_auth("reader", Some(&reader)).send().await.unwrap().status(), 401);
}
