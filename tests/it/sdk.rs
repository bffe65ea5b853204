//! The admin API through the published SDK, as its users call it.

use ory_client::apis::api_keys_api as api;
use ory_client::apis::configuration::Configuration;
use ory_client::models::{
    AdminRevokeIssuedApiKeyBody, IpRestriction, IssueApiKeyRequest, KeyStatus, RateLimitPolicy, RevocationReason,
    VerificationErrorCode, VerifyApiKeyRequest,
};

use crate::support::keygate::Keygate;

fn sdk(keygate: &Keygate) -> Configuration {
    Configuration {
        base_path: keygate.admin.clone(),
        bearer_access_token: Some("ignored".into()),
        ..Configuration::default()
    }
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
    let good = api::admin_verify_api_key(&sdk, verify(), None, None).await.unwrap();
    assert_eq!(
        (good.is_valid, good.key_id.as_deref(), good.actor_id.as_deref()),
        (Some(true), Some(id.as_str()), Some("user_1"))
    );
    assert_eq!(good.metadata, Some(serde_json::json!({"team": "blue"})));

    let body = AdminRevokeIssuedApiKeyBody {
        reason: Some(RevocationReason::RevocationReasonPrivilegeWithdrawn),
        description: Some("left".into()),
    };
    api::admin_revoke_issued_api_key(&sdk, &id, body).await.unwrap();
    let bad = api::admin_verify_api_key(&sdk, verify(), None, None).await.unwrap();
    assert_eq!(bad.is_valid, Some(false));
    assert_eq!(bad.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
    let read = api::admin_get_issued_api_key(&sdk, &id).await.unwrap();
    assert_eq!(read.status, Some(KeyStatus::KeyStatusRevoked));
    assert_eq!(read.revocation_description.as_deref(), Some("left"));
    assert_eq!(keygate.call("/", &secret).await.status(), 401);
}

#[tokio::test]
async fn errors_reach_the_sdk_as_the_contract_has_them() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let error =
        api::admin_get_issued_api_key(&sdk(&keygate), "11111111-2222-4333-8444-555555555555").await.unwrap_err();
    let ory_client::apis::Error::ResponseError(answer) = error else { panic!("{error}") };
    assert_eq!(answer.status.as_u16(), 404);
    assert!(answer.content.contains("API_KEY_NOT_FOUND"), "{}", answer.content);
}
