//! Each operation of the documented table, with each role and without a key.

use ory_client::apis::api_keys_api as api;
use ory_client::apis::configuration::Configuration;
use ory_client::models::{IssueApiKeyRequest, VerifyApiKeyRequest};
use serde_json::json;

use super::{UNKNOWN, serve};
use crate::support::keygate::Keygate;

const ROLES: [&str; 4] = ["read", "verify", "manage", "admin"];

/// The rows of the table of operations: method and path, and what they need.
fn operations() -> Vec<(String, String)> {
    let document = include_str!("../../../docs/admin-auth.md");
    let table = document.split("| operation | needs |\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
        (cells.next().unwrap(), cells.next().unwrap())
    };
    table.lines().skip(1).map(row).collect()
}

#[tokio::test]
async fn each_operation_needs_its_role() {
    let keygate = serve(&json!({}));
    let mut keys = vec![("none", String::new())];
    for role in ROLES {
        keys.push((role, keygate.admin_key(json!({"roles": [role]})).await.1));
    }
    let operations = operations();
    assert!(operations.len() > 30, "{operations:?}");
    for (operation, needs) in &operations {
        for (role, key) in &keys {
            let response = keygate.send_as(key, &operation.replace("{key_id}", UNKNOWN), "").await;
            let is_allowed = needs == "no key" || needs == role || (needs == "any role" && *role != "none");
            match (is_allowed, *role) {
                (true, _) => assert!(![401, 403].contains(&response.status), "{operation} {role}: {response:?}"),
                (false, "none") => {
                    assert_eq!((response.status, response.reason()), (401, "UNAUTHORIZED"), "{operation}");
                }
                (false, _) => {
                    assert_eq!((response.status, response.reason()), (403, "FORBIDDEN"), "{operation} {role}");
                    assert_eq!(response.text("/error/details/0/metadata/required_role"), *needs);
                    assert!(response.message().contains(&format!("lacks the role {needs}")), "{response:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn missing_key_gets_a_challenge_and_refused_calls_change_nothing() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({})).await;
    let url = format!("{}/v2alpha1/admin/issuedApiKeys/{id}:revoke", keygate.admin);
    let response = keygate.http.post(&url).send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"keygate-admin\"");
    let (_, reader) = keygate.admin_key(json!({"roles": ["read"]})).await;
    assert_eq!(keygate.http.post(&url).bearer_auth(reader).send().await.unwrap().status(), 403);
    let key = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await;
    assert_eq!(key.text("/status"), "KEY_STATUS_ACTIVE");
}

#[tokio::test]
async fn body_of_a_refused_call_is_not_needed_for_its_response() {
    let keygate = serve(&json!({}));
    for operation in
        ["POST /v2alpha1/admin/issuedApiKeys", &format!("POST /v2alpha1/admin/issuedApiKeys/{UNKNOWN}:rotate")]
    {
        let response = keygate.send_as("", operation, "{ not json").await;
        assert_eq!(response.status, 401, "{response:?}");
    }
}

fn sdk(keygate: &Keygate, key: &str) -> Configuration {
    Configuration {
        base_path: keygate.admin.clone(),
        bearer_access_token: (!key.is_empty()).then(|| key.to_owned()),
        ..Configuration::default()
    }
}

/// Status of an error of the SDK; 200 for success.
fn status<T, E>(result: Result<T, ory_client::apis::Error<E>>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(ory_client::apis::Error::ResponseError(response)) => response.status.as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn published_sdk_carries_the_key_as_its_access_token() {
    let keygate = serve(&json!({}));
    let (_, secret) = keygate.issue(json!({})).await;
    for (roles, expected) in [
        (&[][..], [401, 401, 401]),
        (&["read"], [200, 403, 403]),
        (&["verify"], [403, 200, 403]),
        (&["manage"], [403, 403, 200]),
        (&["admin"], [403, 403, 403]),
        (&["read", "verify", "manage"], [200, 200, 200]),
    ] {
        let key = if roles.is_empty() { String::new() } else { keygate.admin_key(json!({"roles": roles})).await.1 };
        let sdk = sdk(&keygate, &key);
        let verify = VerifyApiKeyRequest { credential: Some(secret.clone()), ..VerifyApiKeyRequest::default() };
        let issue =
            IssueApiKeyRequest { name: Some("n".into()), actor_id: Some("a".into()), ..IssueApiKeyRequest::default() };
        let outcomes = [
            status(api::admin_list_issued_api_keys(&sdk, None, None, None).await),
            status(api::admin_verify_api_key(&sdk, verify, None, None).await),
            status(api::admin_issue_api_key(&sdk, issue).await),
        ];
        assert_eq!(outcomes, expected, "{roles:?}");
    }
}
