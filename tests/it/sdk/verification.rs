//! Judging credentials, and giving them up.

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

fn bound() -> IssueApiKeyRequest {
    IssueApiKeyRequest {
        ip_restriction: Some(Box::new(IpRestriction { allowed_cidrs: Some(vec!["10.0.0.0/8".into()]) })),
        ..issue_request()
    }
}

#[tokio::test]
async fn a_good_key_is_shown_with_all_that_it_says() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (key, id, secret) = issue(&sdk, issue_request()).await;
    let good = verify(&sdk, &secret).await;
    assert_eq!((good.is_valid, good.error_code, good.error_message), (Some(true), None, None));
    assert_eq!((good.key_id, good.actor_id.as_deref()), (Some(id), Some("user_1")));
    assert_eq!((good.scopes, good.metadata, good.expire_time), (key.scopes, key.metadata, key.expire_time));
    assert_eq!((good.status, good.visibility), (Some(KeyStatus::KeyStatusActive), key.visibility));
    assert_eq!(good.issuer.as_deref(), Some("http://localhost/keygate"));
}

#[tokio::test]
async fn a_refusal_says_why_and_nothing_else() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, _, bound) = issue(&sdk, bound()).await;
    for (credential, code) in [
        (UNKNOWN, VerificationErrorCode::VerificationErrorNotFound),
        (&bound, VerificationErrorCode::VerificationErrorIpNotAllowed),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", VerificationErrorCode::VerificationErrorSignatureInvalid),
        ("mc_v1_AgEX", VerificationErrorCode::VerificationErrorSignatureInvalid),
    ] {
        let bad = verify(&sdk, credential).await;
        assert_eq!((bad.is_valid, bad.error_code), (Some(false), Some(code)));
        assert!(bad.error_message.is_some_and(|message| !message.is_empty()));
        assert_eq!((bad.key_id.as_deref(), bad.actor_id.as_deref()), (Some(""), Some("")));
        assert_eq!((bad.issuer.as_deref(), bad.status), (Some(""), Some(KeyStatus::KeyStatusUnspecified)));
        assert_eq!((bad.scopes, bad.metadata, bad.expire_time), (Some(Vec::new()), None, None));
    }
    for credential in [String::new(), "x".repeat(8193)] {
        let request = VerifyApiKeyRequest { credential: Some(credential), expected_audiences: None };
        assert_refused(api::admin_verify_api_key(&sdk, request, None, None).await, 400, "BAD_REQUEST");
    }
}

async fn batch(sdk: &Configuration, credentials: &[&str]) -> Vec<(Option<String>, Option<VerificationErrorCode>)> {
    let answer = api::admin_batch_verify_api_keys(sdk, batch_request(credentials), None, None).await.unwrap();
    answer.results.unwrap().into_iter().map(|result| (result.key_id, result.error_code)).collect()
}

fn batch_request(credentials: &[&str]) -> BatchVerifyApiKeysRequest {
    let item = |credential: &&str| VerifyApiKeyRequest {
        credential: Some((*credential).into()),
        ..VerifyApiKeyRequest::default()
    };
    BatchVerifyApiKeysRequest { requests: Some(credentials.iter().map(item).collect()) }
}

#[tokio::test]
async fn a_batch_is_judged_one_by_one_and_in_order() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    let (_, _, bound) = issue(&sdk, bound()).await;
    let imported = api::admin_import_api_key(&sdk, import_request("sk_live_batch")).await.unwrap().key_id;
    let good = (Some(id), None);
    let refused = |code| (Some(String::new()), Some(code));
    let results = batch(&sdk, &[&secret, UNKNOWN, "sk_live_batch", &bound, &secret]).await;
    let expected = [
        good.clone(),
        refused(VerificationErrorCode::VerificationErrorNotFound),
        (imported, None),
        refused(VerificationErrorCode::VerificationErrorIpNotAllowed),
        good,
    ];
    assert_eq!(results, expected);
    assert_eq!(batch(&sdk, &[UNKNOWN; 100]).await.len(), 100);
    for wrong in [&[][..], &[&secret, ""], &[UNKNOWN; 101]] {
        let answer = api::admin_batch_verify_api_keys(&sdk, batch_request(wrong), None, None).await;
        assert_refused(answer, 400, "BAD_REQUEST");
    }
}

fn give_up(credential: &str, reason: RevocationReason) -> SelfRevokeApiKeyRequest {
    SelfRevokeApiKeyRequest { credential: Some(credential.into()), reason: Some(reason) }
}

#[tokio::test]
async fn a_holder_ends_a_key_as_often_as_wanted() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let reason = RevocationReason::RevocationReasonKeyCompromise;
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    assert_eq!(keygate.call("/", &secret).await.status(), 200);
    for _ in 0..2 {
        assert_eq!(api::revoke_api_key(&sdk, give_up(&secret, reason)).await.unwrap(), json!({}));
    }
    let key = api::admin_get_issued_api_key(&sdk, &id).await.unwrap();
    assert_eq!((key.status, key.revocation_reason), (Some(KeyStatus::KeyStatusRevoked), Some(reason)));
    assert_eq!(verify(&sdk, &secret).await.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
    assert_eq!(keygate.call("/", &secret).await.status(), 401);

    let (_, _, bound) = issue(&sdk, bound()).await;
    api::revoke_api_key(&sdk, give_up(&bound, RevocationReason::RevocationReasonUnspecified)).await.unwrap();
    api::admin_import_api_key(&sdk, import_request("sk_live_mine")).await.unwrap();
    api::revoke_api_key(&sdk, give_up("sk_live_mine", reason)).await.unwrap();
    assert_eq!(verify(&sdk, "sk_live_mine").await.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
}

#[tokio::test]
async fn a_holder_cannot_end_what_is_not_theirs_to_end() {
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
        (give_up(&secret, RevocationReason::RevocationReasonPrivilegeWithdrawn), 400, "BAD_REQUEST"),
        (give_up("pk_live_public", reason), 403, "FORBIDDEN"),
        (give_up(UNKNOWN, reason), 404, "API_KEY_NOT_FOUND"),
        (give_up(&forged, reason), 404, "API_KEY_NOT_FOUND"),
        (give_up("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", reason), 400, "DERIVED_TOKEN_NOT_REVOCABLE"),
        (give_up("mc_v1_AgEX", reason), 400, "DERIVED_TOKEN_NOT_REVOCABLE"),
        (SelfRevokeApiKeyRequest::default(), 400, "BAD_REQUEST"),
    ] {
        assert_refused(api::revoke_api_key(&sdk, request).await, status, answered);
    }
    assert_eq!(verify(&sdk, &secret).await.is_valid, Some(true));
    assert_eq!(verify(&sdk, "pk_live_public").await.is_valid, Some(true));
}
