//! An admin key that is bound to actors: every operation that names or returns a key.

use serde_json::{Value, json};

use super::serve;
use crate::support::keygate::Keygate;

const ADMIN: &str = "/v2alpha1/admin";

/// A server, a key bound to `team-a/`, and an issued and an imported key of each team.
struct Teams {
    keygate: Keygate,
    bound: String,
    own: (String, String),
    foreign: (String, String),
    own_imported: String,
    foreign_imported: String,
}

impl Teams {
    async fn new() -> Self {
        let keygate = serve(&json!({}));
        let roles = json!(["read", "verify", "manage"]);
        let (_, bound) = keygate.admin_key(json!({"roles": roles, "actors": ["team-a/"]})).await;
        Self {
            own: keygate.issue(json!({"actor_id": "team-a/x"})).await,
            foreign: keygate.issue(json!({"actor_id": "team-b/x"})).await,
            own_imported: keygate.import(json!({"actor_id": "team-a/x", "raw_key": "raw-key-of-team-a"})).await,
            foreign_imported: keygate.import(json!({"actor_id": "team-b/x", "raw_key": "raw-key-of-team-b"})).await,
            bound,
            keygate,
        }
    }

    async fn send(&self, operation: &str, body: Value) -> crate::support::admin::AdminResponse {
        self.keygate.send_as(&self.bound, operation, body.to_string()).await
    }
}

#[tokio::test]
async fn foreign_keys_are_404_and_unchanged() {
    let teams = Teams::new().await;
    for (kind, own, foreign) in
        [("issued", &teams.own.0, &teams.foreign.0), ("imported", &teams.own_imported, &teams.foreign_imported)]
    {
        let get = |id: &str| format!("GET {ADMIN}/{kind}ApiKeys/{id}");
        assert_eq!(teams.send(&get(own), json!({})).await.status, 200);
        let mut operations = vec![
            get(foreign),
            format!("PATCH {ADMIN}/{kind}ApiKeys/{foreign}"),
            format!("POST {ADMIN}/{kind}ApiKeys/{foreign}:revoke"),
            format!("POST {ADMIN}/apiKeys/{foreign}:revoke"),
        ];
        operations.push(match kind {
            "issued" => format!("POST {ADMIN}/issuedApiKeys/{foreign}:rotate"),
            _ => format!("DELETE {ADMIN}/importedApiKeys/{foreign}"),
        });
        let before = teams.keygate.send(&get(foreign), "").await;
        for operation in operations {
            let response = teams.send(&operation, json!({"name": "changed"})).await;
            assert_eq!((response.status, response.reason()), (404, "API_KEY_NOT_FOUND"), "{operation}");
        }
        assert_eq!(teams.keygate.send(&get(foreign), "").await, before);
    }
}

#[tokio::test]
async fn lists_are_filtered_in_pages_of_full_size() {
    let teams = Teams::new().await;
    for index in 0..10 {
        teams
            .keygate
            .issue(json!({"actor_id": format!("team-{}/{index}", if index % 2 == 0 { "a" } else { "ab" })}))
            .await;
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let page = teams.send(&format!("GET {ADMIN}/issuedApiKeys?page_size=2&page_token={token}"), json!({})).await;
        let keys = page.body["issued_api_keys"].as_array().unwrap().clone();
        token = page.text("/next_page_token");
        assert!(token.is_empty() || keys.len() == 2, "{page:?}");
        names.extend(keys.iter().map(|key| key["actor_id"].as_str().unwrap().to_owned()));
        if token.is_empty() {
            break;
        }
    }
    assert!(names.len() == 6 && names.iter().all(|name| name.starts_with("team-a/")), "{names:?}");
    let imported = teams.send(&format!("GET {ADMIN}/importedApiKeys"), json!({})).await;
    assert_eq!(imported.body["imported_api_keys"].as_array().unwrap().len(), 1);
    for filter in ["actor_id=%22team-b/x%22", "actor_id=%22team-b/x%22+AND+status=KEY_STATUS_ACTIVE"] {
        let listed = teams.send(&format!("GET {ADMIN}/issuedApiKeys?filter={filter}"), json!({})).await;
        assert_eq!(listed.body["issued_api_keys"], json!([]), "{filter}");
    }
    let own = teams.send(&format!("GET {ADMIN}/issuedApiKeys?filter=status=KEY_STATUS_ACTIVE"), json!({})).await;
    assert_eq!(own.body["issued_api_keys"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn keys_are_created_for_own_actors_only() {
    let teams = Teams::new().await;
    for (actor, expected) in [("team-a/new", 201), ("team-b/new", 403), ("team-a", 403)] {
        let issued = teams.send(&format!("POST {ADMIN}/issuedApiKeys"), json!({"name": "n", "actor_id": actor})).await;
        assert_eq!(issued.status, expected, "{issued:?}");
        let import = json!({"name": "n", "actor_id": actor, "raw_key": format!("raw of {actor}")});
        let imported = teams.send(&format!("POST {ADMIN}/importedApiKeys"), import.clone()).await;
        assert_eq!(imported.status, expected, "{imported:?}");
    }
    let item = |actor: &str| json!({"name": "n", "actor_id": actor, "raw_key": format!("batch of {actor}")});
    let batch = json!({"requests": [item("team-a/b"), item("team-b/b")]});
    let batch = teams.send(&format!("POST {ADMIN}/importedApiKeys:batchCreate"), batch).await;
    assert_eq!((&batch.body["success_count"], &batch.body["failure_count"]), (&json!(1), &json!(1)), "{batch:?}");
    assert_eq!(batch.text("/results/1/error_code"), "BATCH_CREATE_IMPORTED_API_KEYS_ERROR_FAILED_PRECONDITION");
    // A request id that names a foreign key does not return it.
    teams.keygate.issue(json!({"actor_id": "team-b/x", "request_id": "shared"})).await;
    let repeated = json!({"name": "n", "actor_id": "team-a/x", "request_id": "shared"});
    assert_eq!(teams.send(&format!("POST {ADMIN}/issuedApiKeys"), repeated).await.status, 409);
}

#[tokio::test]
async fn foreign_credentials_are_unknown() {
    let teams = Teams::new().await;
    let verify = async |credential: &str| {
        let body = json!({"credential": credential});
        teams.send(&format!("POST {ADMIN}/apiKeys:verify"), body).await.body
    };
    assert_eq!(verify(&teams.own.1).await["is_valid"], true);
    assert_eq!(verify("raw-key-of-team-a").await["is_valid"], true);
    let revoked = teams.keygate.issue(json!({"actor_id": "team-b/x"})).await;
    teams.keygate.revoke(&revoked.0).await;
    for credential in [&teams.foreign.1, "raw-key-of-team-b", &revoked.1] {
        let body = verify(credential).await;
        assert_eq!((&body["error_code"], &body["key_id"]), (&json!("VERIFICATION_ERROR_NOT_FOUND"), &json!("")));
        let batch = json!({"requests": [{"credential": credential}]});
        let batch = teams.send(&format!("POST {ADMIN}/apiKeys:batchVerify"), batch).await;
        assert_eq!(batch.text("/results/0/error_code"), "VERIFICATION_ERROR_NOT_FOUND");
        let introspect = teams.keygate.http.post(format!("{}/keygate/v1/introspect", teams.keygate.admin));
        let introspect =
            introspect.header("content-type", "application/x-www-form-urlencoded").bearer_auth(&teams.bound);
        let introspected = introspect.body(format!("token={credential}")).send().await.unwrap();
        assert_eq!(introspected.text().await.unwrap(), r#"{"active":false}"#);
        let derived = teams.send(&format!("POST {ADMIN}/apiKeys:derive"), json!({"credential": credential})).await;
        assert_eq!((derived.status, derived.reason()), (404, "API_KEY_NOT_FOUND"));
    }
    let own = teams.keygate.issue(json!({"actor_id": "team-a/x"})).await;
    teams.keygate.revoke(&own.0).await;
    assert_eq!(
        verify(&own.1).await["error_code"],
        "VERIFICATION_ERROR_REVOKED",
        "the reason of an own key is returned"
    );
    // The token of a foreign key.
    let body = json!({"credential": teams.foreign.1}).to_string();
    let token = teams.keygate.send(&format!("POST {ADMIN}/apiKeys:derive"), body).await.text("/token/token");
    assert_eq!(verify(&token).await["error_code"], "VERIFICATION_ERROR_NOT_FOUND");
}

#[tokio::test]
async fn audit_events_are_of_the_own_actors_and_name_the_admin_key() {
    let teams = Teams::new().await;
    let (id, reader) = teams.keygate.admin_key(json!({"roles": ["read"]})).await;
    let revoke = format!("POST {ADMIN}/issuedApiKeys/{}:revoke", teams.own.0);
    assert_eq!(teams.send(&revoke, json!({})).await.status, 204);
    assert_eq!(teams.keygate.send_as(&reader, &revoke, "{}").await.status, 403);
    let events = "GET /keygate/v1/auditEvents?page_size=100";
    let own = teams.send(events, json!({})).await;
    let own = own.body["audit_events"].as_array().unwrap();
    let actors: Vec<_> = own.iter().map(|event| event["actor_id"].as_str().unwrap()).collect();
    assert_eq!(actors, ["team-a/x"; 3]);
    assert!(own[0]["principal"].as_str().unwrap().starts_with("admin:"), "{own:?}");
    let all = teams.keygate.send_as(&reader, events, "").await;
    let all = all.body["audit_events"].as_array().unwrap();
    let created = all.iter().find(|event| event["key_id"] == *id).unwrap();
    assert_eq!((&created["event"], &created["principal"]), (&json!("IssuedAPIKeyCreated"), &json!("admin:bootstrap")));
    assert!(all.len() > own.len());
}

#[tokio::test]
async fn usage_is_shown_of_own_keys_only() {
    let teams = Teams::new().await;
    let usage = async |id: &str| teams.send(&format!("GET /keygate/v1/keys/{id}/usage"), json!({})).await;
    for own in [&teams.own.0, &teams.own_imported] {
        assert_eq!(usage(own).await.status, 200);
    }
    for foreign in [&teams.foreign.0, &teams.foreign_imported] {
        let response = usage(foreign).await;
        assert_eq!((response.status, response.reason()), (404, "API_KEY_NOT_FOUND"));
    }
    // It is not known whose key a deleted one was.
    let delete = format!("DELETE {ADMIN}/importedApiKeys/{}", teams.own_imported);
    assert_eq!(teams.send(&delete, json!({})).await.status, 204);
    assert_eq!(usage(&teams.own_imported).await.status, 404);
}
