//! Verification and self-revocation.

use ory_client::apis::api_keys_api as api;
use ory_client::apis::configuration::Configuration;
use ory_client::models::{
    BatchVerifyApiKeysRequest, ImportApiKeyRequest, IpRestriction, IssueApiKeyRequest, KeyStatus, KeyVisibility,
    RevocationReason, SelfRevokeApiKeyRequest, VerificationErrorCode, VerifyApiKeyRequest,
};
use serde_json::json;

use super::{assert_refused, import_request, issue, issue_request, sdk, verify};
use crate::support::keygate::Keygate;

const UNKNOWN: &str = "sk_live_unknown";

fn restricted() -> IssueApiKeyRequest {
    IssueApiKeyRequest {
        ip_restriction: Some(Box::new(IpRestriction { allowed_cidrs: Some(vec!["10.0.0.0/8".into()]) })),
        ..issue_request()
    }
}

#[tokio::test]
async fn verification_of_a_valid_key_returns_all_its_fields() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (key, id, secret) = issue(&sdk, issue_request()).await;
    let valid = verify(&sdk, &secret).await;
    assert_eq!((valid.is_valid, valid.error_code, valid.error_message), (Some(true), None, None));
    assert_eq!((valid.key_id, valid.actor_id.as_deref()), (Some(id), Some("user_1")));
    assert_eq!((valid.scopes, valid.metadata, valid.expire_time), (key.scopes, key.metadata, key.expire_time));
    assert_eq!((valid.status, valid.visibility), (Some(KeyStatus::KeyStatusActive), key.visibility));
    assert_eq!(valid.issuer.as_deref(), Some("http://localhost/keygate"));
}

#[tokio::test]
async fn verification_of_an_invalid_key_returns_only_the_error() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, _, restricted) = issue(&sdk, restricted()).await;
    for (credential, code) in [
        (UNKNOWN, VerificationErrorCode::VerificationErrorNotFound),
        (&restricted, VerificationErrorCode::VerificationErrorIpNotAllowed),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", VerificationErrorCode::VerificationErrorSignatureInvalid),
        ("mc_v1_AgEX", VerificationErrorCode::VerificationErrorSignatureInvalid),
    ] {
        let invalid = verify(&sdk, credential).await;
        assert_eq!((invalid.is_valid, invalid.error_code), (Some(false), Some(code)));
        assert!(invalid.error_message.is_some_and(|message| !message.is_empty()));
        assert_eq!((invalid.key_id.as_deref(), invalid.actor_id.as_deref()), (Some(""), Some("")));
        assert_eq!((invalid.issuer.as_deref(), invalid.status), (Some(""), Some(KeyStatus::KeyStatusUnspecified)));
        assert_eq!((invalid.scopes, invalid.metadata, invalid.expire_time), (Some(Vec::new()), None, None));
    }
    for credential in [String::new(), "x".repeat(8193)] {
        let request = VerifyApiKeyRequest { credential: Some(credential), expected_audiences: None };
        assert_refused(api::admin_verify_api_key(&sdk, request, None, None).await, 400, "BAD_REQUEST");
    }
}

async fn batch(sdk: &Configuration, credentials: &[&str]) -> Vec<(Option<String>, Option<VerificationErrorCode>)> {
    let response = api::admin_batch_verify_api_keys(sdk, batch_request(credentials), None, None).await.unwrap();
    response.results.unwrap().into_iter().map(|result| (result.key_id, result.error_code)).collect()
}

fn batch_request(credentials: &[&str]) -> BatchVerifyApiKeysRequest {
    let item = |credential: &&str| VerifyApiKeyRequest {
        credential: Some((*credential).into()),
        ..VerifyApiKeyRequest::default()
    };
    BatchVerifyApiKeysRequest { requests: Some(credentials.iter().map(item).collect()) }
}

#[tokio::test]
async fn batch_verification_returns_results_in_order() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    let (_, _, restricted) = issue(&sdk, restricted()).await;
    let imported = api::admin_import_api_key(&sdk, import_request("sk_live_batch")).await.unwrap().key_id;
    let valid = (Some(id), None);
    let invalid_with = |code| (Some(String::new()), Some(code));
    let results = batch(&sdk, &[&secret, UNKNOWN, "sk_live_batch", &restricted, &secret]).await;
    let expected = [
        valid.clone(),
        invalid_with(VerificationErrorCode::VerificationErrorNotFound),
        (imported, None),
        invalid_with(VerificationErrorCode::VerificationErrorIpNotAllowed),
        valid,
    ];
    assert_eq!(results, expected);
    assert_eq!(batch(&sdk, &[UNKNOWN; 100]).await.len(), 100);
    for wrong in [&[][..], &[&secret, ""], &[UNKNOWN; 101]] {
        let response = api::admin_batch_verify_api_keys(&sdk, batch_request(wrong), None, None).await;
        assert_refused(response, 400, "BAD_REQUEST");
    }
}

fn self_revocation(credential: &str, reason: RevocationReason) -> SelfRevokeApiKeyRequest {
    SelfRevokeApiKeyRequest { credential: Some(credential.into()), reason: Some(reason) }
}

#[tokio::test]
async fn self_revocation_is_idempotent() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let reason = RevocationReason::RevocationReasonKeyCompromise;
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    assert_eq!(keygate.call("/", &secret).await.status(), 200);
    for _ in 0..2 {
        assert_eq!(api::revoke_api_key(&sdk, self_revocation(&secret, reason)).await.unwrap(), json!({}));
    }
    let key = api::admin_get_issued_api_key(&sdk, &id).await.unwrap();
    assert_eq!((key.status, key.revocation_reason), (Some(KeyStatus::KeyStatusRevoked), Some(reason)));
    assert_eq!(verify(&sdk, &secret).await.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
    assert_eq!(keygate.call("/", &secret).await.status(), 401);

    let (_, _, restricted) = issue(&sdk, restricted()).await;
    api::revoke_api_key(&sdk, self_revocation(&restricted, RevocationReason::RevocationReasonUnspecified))
        .await
        .unwrap();
    api::admin_import_api_key(&sdk, import_request("sk_live_mine")).await.unwrap();
    api::revoke_api_key(&sdk, self_revocation("sk_live_mine", reason)).await.unwrap();
    assert_eq!(verify(&sdk, "sk_live_mine").await.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
}

#[tokio::test]
async fn self_revocation_rejects_public_unknown_and_derived_credentials() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let reason = RevocationReason::RevocationReasonKeyCompromise;
    let (_, _, secret) = issue(&sdk, issue_request()).await;
    let public = ImportApiKeyRequest {
        visibility: Some(KeyVisibility::KeyVisibilityPublic),
        ..import_request("pk_live_public")
    };
    api::admin_import_api_key(&sdk, public).await.unwrap();
    let forged = format!("{secret}x");
    for (request, status, answered) in [
        (self_revocation(&secret, RevocationReason::RevocationReasonPrivilegeWithdrawn), 400, "BAD_REQUEST"),
        (self_revocation("pk_live_public", reason), 403, "FORBIDDEN"),
        (self_revocation(UNKNOWN, reason), 404, "API_KEY_NOT_FOUND"),
        (self_revocation(&forged, reason), 404, "API_KEY_NOT_FOUND"),
        (self_revocation("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", reason), 400, "DERIVED_TOKEN_NOT_REVOCABLE"),
        (self_revocation("mc_v1_AgEX", reason), 400, "DERIVED_TOKEN_NOT_REVOCABLE"),
        (SelfRevokeApiKeyRequest::default(), 400, "BAD_REQUEST"),
    ] {
        assert_refused(api::revoke_api_key(&sdk, request).await, status, answered);
    }
    assert_eq!(verify(&sdk, &secret).await.is_valid, Some(true));
    assert_eq!(verify(&sdk, "pk_live_public").await.is_valid, Some(true));
}
