//! The admin API through the current published SDK.

mod derived;
mod imported;
mod issued;
mod verification;

use ory_client::apis::Error;
use ory_client::apis::api_keys_api as api;
use ory_client::apis::configuration::Configuration;
use ory_client::models::{
    AdminRevokeIssuedApiKeyBody, AdminRotateIssuedApiKeyBody, DeriveTokenRequest, ImportApiKeyRequest, IpRestriction,
    IssueApiKeyRequest, IssuedApiKey, KeyStatus, RateLimitPolicy, RevocationReason, VerificationErrorCode,
    VerifyApiKeyRequest, VerifyApiKeyResponse,
};
use serde_json::{Value, json};

use crate::support::keygate::Keygate;

/// No issued key has this id.
const UNKNOWN_ISSUED: &str = "11111111-2222-4333-8444-555555555555";
/// No imported key has this id.
const UNKNOWN_IMPORTED: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn sdk(keygate: &Keygate) -> Configuration {
    Configuration {
        base_path: keygate.admin.clone(),
        bearer_access_token: Some(keygate.admin_key.clone()),
        ..Configuration::default()
    }
}

/// A request for an issued key with default values.
fn issue_request() -> IssueApiKeyRequest {
    IssueApiKeyRequest {
        name: Some("Orders".into()),
        actor_id: Some("user_1".into()),
        scopes: Some(vec!["read".into(), "write".into()]),
        ttl: Some("30d".into()),
        metadata: Some(json!({"team": "blue"})),
        ..IssueApiKeyRequest::default()
    }
}

/// A request for an imported key with default values.
fn import_request(raw_key: &str) -> ImportApiKeyRequest {
    ImportApiKeyRequest {
        raw_key: Some(raw_key.into()),
        name: Some("Payments".into()),
        actor_id: Some("user_2".into()),
        scopes: Some(vec!["read".into()]),
        metadata: Some(json!({"from": "elsewhere"})),
        ..ImportApiKeyRequest::default()
    }
}

/// Issues a key: the key, its id, its secret.
async fn issue(sdk: &Configuration, request: IssueApiKeyRequest) -> (IssuedApiKey, String, String) {
    let issued = api::admin_issue_api_key(sdk, request).await.unwrap();
    let key = *issued.issued_api_key.unwrap();
    let id = key.key_id.clone().unwrap();
    (key, id, issued.secret.unwrap())
}

async fn verify(sdk: &Configuration, credential: &str) -> VerifyApiKeyResponse {
    verify_for(sdk, credential, &[]).await
}

async fn verify_for(sdk: &Configuration, credential: &str, audiences: &[&str]) -> VerifyApiKeyResponse {
    let audiences = audiences.iter().map(ToString::to_string).collect::<Vec<_>>();
    let request = VerifyApiKeyRequest {
        credential: Some(credential.into()),
        expected_audiences: (!audiences.is_empty()).then_some(audiences),
    };
    api::admin_verify_api_key(sdk, request, None, None).await.unwrap()
}

/// The `error` member of an error response; checks what all error responses share.
#[track_caller]
fn error_of<T, E>(result: Result<T, Error<E>>) -> Value {
    let Some(Error::ResponseError(response)) = result.err() else { panic!("the call succeeded") };
    let mut body: Value = serde_json::from_str(&response.content).unwrap();
    let error = body["error"].take();
    assert_eq!(error["code"], response.status.as_u16());
    assert_eq!(error["details"].as_array().map(Vec::len), Some(1), "{error}");
    assert_eq!(error["details"][0]["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
    assert_eq!(error["details"][0]["domain"], "www.ory.com/talos");
    error
}

#[track_caller]
fn assert_refused<T, E>(result: Result<T, Error<E>>, status: u16, reason: &str) {
    let error = error_of(result);
    assert_eq!((&error["code"], &error["details"][0]["reason"]), (&json!(status), &json!(reason)), "{error}");
}

#[tokio::test]
async fn issue_get_verify_revoke_verify() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let request = IssueApiKeyRequest {
        name: Some("Orders".into()),
        actor_id: Some("user_1".into()),
        scopes: Some(vec!["read".into(), "write".into()]),
        ttl: Some("30d".into()),
        metadata: Some(serde_json::json!({"team": "blue"})),
        rate_limit_policy: Some(Box::new(RateLimitPolicy {
            quota: Some("100".into()),
            window: Some("60s".into()),
            ..RateLimitPolicy::default()
        })),
        ip_restriction: Some(Box::new(IpRestriction { allowed_cidrs: Some(vec!["127.0.0.0/8".into()]) })),
        ..IssueApiKeyRequest::default()
    };
    let issued = api::admin_issue_api_key(&sdk, request).await.unwrap();
    let (key, secret) = (issued.issued_api_key.unwrap(), issued.secret.unwrap());
    let id = key.key_id.clone().unwrap();
    assert_eq!(keygate.call("/", &secret).await.status(), 200);

    let read = api::admin_get_issued_api_key(&sdk, &id).await.unwrap();
    assert_eq!(read, *key);
    assert_eq!(read.status, Some(KeyStatus::KeyStatusActive));

    let verify = || VerifyApiKeyRequest { credential: Some(secret.clone()), ..VerifyApiKeyRequest::default() };
    let valid = api::admin_verify_api_key(&sdk, verify(), None, None).await.unwrap();
    assert_eq!(
        (valid.is_valid, valid.key_id.as_deref(), valid.actor_id.as_deref()),
        (Some(true), Some(id.as_str()), Some("user_1"))
    );
    assert_eq!(valid.metadata, Some(serde_json::json!({"team": "blue"})));

    let body = AdminRevokeIssuedApiKeyBody {
        reason: Some(RevocationReason::RevocationReasonPrivilegeWithdrawn),
        description: Some("left".into()),
    };
    api::admin_revoke_issued_api_key(&sdk, &id, body).await.unwrap();
    let invalid = api::admin_verify_api_key(&sdk, verify(), None, None).await.unwrap();
    assert_eq!(invalid.is_valid, Some(false));
    assert_eq!(invalid.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
    let read = api::admin_get_issued_api_key(&sdk, &id).await.unwrap();
    assert_eq!(read.status, Some(KeyStatus::KeyStatusRevoked));
    assert_eq!(read.revocation_description.as_deref(), Some("left"));
    assert_eq!(keygate.call("/", &secret).await.status(), 401);
}

#[tokio::test]
async fn sdk_reads_an_error_response() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let error =
        api::admin_get_issued_api_key(&sdk(&keygate), "11111111-2222-4333-8444-555555555555").await.unwrap_err();
    let Error::ResponseError(response) = error else { panic!("{error}") };
    assert_eq!(response.status.as_u16(), 404);
    assert!(response.content.contains("API_KEY_NOT_FOUND"), "{}", response.content);
}

#[tokio::test]
async fn each_error_has_its_status_and_message() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let body = AdminRotateIssuedApiKeyBody::default();
    let rotated = api::admin_rotate_issued_api_key(&sdk, UNKNOWN_ISSUED, body).await;
    let deleted = api::admin_delete_imported_api_key(&sdk, UNKNOWN_IMPORTED).await;
    let listed = api::admin_list_issued_api_keys(&sdk, None, Some("invalid"), None).await;
    let without_expiry = IssueApiKeyRequest { ttl: Some("0s".into()), ..issue_request() };
    let issued = api::admin_issue_api_key(&sdk, without_expiry).await;
    let like_jwt = import_request("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln");
    let imported = api::admin_import_api_key(&sdk, like_jwt).await;
    let unknown = DeriveTokenRequest { credential: Some("sk_live_unknown".into()), ..DeriveTokenRequest::default() };
    let derived = api::admin_derive_token(&sdk, unknown).await;
    for (error, code, status, reason, message) in [
        (error_of(rotated), 404, "NOT_FOUND", "API_KEY_NOT_FOUND", "API key not found"),
        (error_of(deleted), 404, "NOT_FOUND", "API_KEY_NOT_FOUND", "imported key not found"),
        (error_of(listed), 400, "INVALID_ARGUMENT", "BAD_REQUEST", "invalid page token"),
        (
            error_of(issued),
            400,
            "INVALID_ARGUMENT",
            "BAD_REQUEST",
            "ttl must be greater than 0; non-expiring API keys are not supported",
        ),
        (
            error_of(imported),
            409,
            "FAILED_PRECONDITION",
            "FAILED_PRECONDITION",
            "cannot import key: format conflicts with derived token pattern",
        ),
        (error_of(derived), 401, "UNAUTHENTICATED", "UNAUTHORIZED", "verify API key"),
    ] {
        let actual = (&error["code"], &error["status"], &error["details"][0]["reason"], &error["message"]);
        assert_eq!(actual, (&json!(code), &json!(status), &json!(reason), &json!(message)));
    }
}
