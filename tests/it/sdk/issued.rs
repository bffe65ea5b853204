//! Issued keys: issue, list, update, rotate, revoke.

use ory_client::apis::api_keys_api as api;
use ory_client::models::{
    AdminRevokeIssuedApiKeyBody, AdminRotateIssuedApiKeyBody, AdminUpdateIssuedApiKeyRequest, IpRestriction,
    IssueApiKeyRequest, KeyStatus, RateLimitPolicy, RevocationReason, VerificationErrorCode,
};
use serde_json::json;

use super::{UNKNOWN_ISSUED, assert_refused, import_request, issue, issue_request, sdk, verify};
use crate::support::keygate::Keygate;

#[tokio::test]
async fn repeated_request_id_returns_the_first_key_without_its_secret() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let request = IssueApiKeyRequest { request_id: Some("once".into()), ..issue_request() };
    let (first, ..) = issue(&sdk, request.clone()).await;
    let (again, _, secret) = issue(&sdk, IssueApiKeyRequest { name: Some("Other".into()), ..request }).await;
    assert_eq!((again, secret.as_str()), (first, ""));
    assert_refused(api::admin_issue_api_key(&sdk, IssueApiKeyRequest::default()).await, 400, "BAD_REQUEST");
}

#[tokio::test]
async fn issued_keys_are_listed_by_filter_and_in_pages() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(issue(&sdk, issue_request()).await.1);
    }
    expected.sort_unstable_by(|a, b| b.cmp(a));
    issue(&sdk, IssueApiKeyRequest { actor_id: Some("user_2".into()), ..issue_request() }).await;

    let (mut listed, mut sizes, mut token) = (Vec::new(), Vec::new(), None);
    while token.as_deref() != Some("") {
        let filter = Some(r#"actor_id = "user_1""#);
        let page = api::admin_list_issued_api_keys(&sdk, Some(2), token.as_deref(), filter).await.unwrap();
        let keys = page.issued_api_keys.unwrap();
        assert!(!keys.is_empty() && listed.len() <= expected.len(), "too many pages");
        sizes.push(keys.len());
        listed.extend(keys.into_iter().filter_map(|key| key.key_id));
        token = Some(page.next_page_token.unwrap());
    }
    assert_eq!((listed, sizes), (expected, vec![2, 2, 1]));
}

#[tokio::test]
async fn issued_keys_are_listed_by_status() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, active, _) = issue(&sdk, issue_request()).await;
    let (_, revoked, _) = issue(&sdk, issue_request()).await;
    api::admin_revoke_issued_api_key(&sdk, &revoked, AdminRevokeIssuedApiKeyBody::default()).await.unwrap();
    for (status, id) in [("KEY_STATUS_ACTIVE", active), ("KEY_STATUS_REVOKED", revoked)] {
        let filter = format!("actor_id=user_1 AND status={status}");
        let page = api::admin_list_issued_api_keys(&sdk, None, None, Some(&filter)).await.unwrap();
        let ids: Vec<_> = page.issued_api_keys.unwrap().into_iter().map(|key| key.key_id).collect();
        assert_eq!((ids, page.next_page_token.as_deref()), (vec![Some(id)], Some("")), "{status}");
    }
    for filter in ["name=x", "actor_id=user_1 OR actor_id=user_2", "actor_id=user_1 AND status=ACTIVE"] {
        let page = api::admin_list_issued_api_keys(&sdk, None, None, Some(filter)).await;
        assert_refused(page, 400, "BAD_REQUEST");
    }
    assert_refused(api::admin_list_issued_api_keys(&sdk, Some(1001), None, None).await, 400, "BAD_REQUEST");
}

#[tokio::test]
async fn update_sets_or_clears_the_fields_in_its_mask() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let limited = IssueApiKeyRequest {
        ip_restriction: Some(Box::new(IpRestriction { allowed_cidrs: Some(vec!["127.0.0.0/8".into()]) })),
        rate_limit_policy: Some(Box::new(RateLimitPolicy {
            quota: Some("100".into()),
            window: Some("60s".into()),
            ..RateLimitPolicy::default()
        })),
        ..issue_request()
    };
    let (_, id, secret) = issue(&sdk, limited).await;
    let change = AdminUpdateIssuedApiKeyRequest {
        name: Some("Renamed".into()),
        scopes: Some(vec!["masked out".into()]),
        ..AdminUpdateIssuedApiKeyRequest::default()
    };
    let mask = Some("name,metadata,ip_restriction,rateLimitPolicy");
    let key = api::admin_update_issued_api_key(&sdk, &id, change, mask).await.unwrap();
    assert_eq!(key.name.as_deref(), Some("Renamed"));
    assert_eq!((&key.metadata, &key.ip_restriction, &key.rate_limit_policy), (&None, &None, &None));
    assert_eq!(key.scopes, Some(vec!["read".into(), "write".into()]));
    assert_eq!(api::admin_get_issued_api_key(&sdk, &id).await.unwrap(), key);
    assert_eq!(verify(&sdk, &secret).await.metadata, None);
}

#[tokio::test]
async fn update_without_a_mask_sets_the_given_fields_except_managed_ones() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    let change = AdminUpdateIssuedApiKeyRequest {
        scopes: Some(vec!["admin".into()]),
        actor_id: Some("another actor".into()),
        status: Some(KeyStatus::KeyStatusRevoked),
        ..AdminUpdateIssuedApiKeyRequest::default()
    };
    let key = api::admin_update_issued_api_key(&sdk, &id, change.clone(), None).await.unwrap();
    assert_eq!(key.scopes, Some(vec!["admin".into()]));
    assert_eq!((key.name.as_deref(), key.actor_id.as_deref()), (Some("Orders"), Some("user_1")));
    assert_eq!((key.metadata, key.status), (Some(json!({"team": "blue"})), Some(KeyStatus::KeyStatusActive)));
    assert_eq!(verify(&sdk, &secret).await.scopes, Some(vec!["admin".into()]));
    for mask in ["actor_id", "*", "rate_limit_policy.quota"] {
        let response = api::admin_update_issued_api_key(&sdk, &id, change.clone(), Some(mask)).await;
        assert_refused(response, 400, "BAD_REQUEST");
    }
    let response = api::admin_update_issued_api_key(&sdk, UNKNOWN_ISSUED, change, None).await;
    assert_refused(response, 404, "API_KEY_NOT_FOUND");
}

#[tokio::test]
async fn rotation_copies_all_fields_and_revokes_the_old_key() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (old, old_id, old_secret) = issue(&sdk, issue_request()).await;
    let body = AdminRotateIssuedApiKeyBody::default();
    let rotated = api::admin_rotate_issued_api_key(&sdk, &old_id, body.clone()).await.unwrap();
    let (new, secret) = (rotated.issued_api_key.unwrap(), rotated.secret.unwrap());
    assert_ne!((&new.key_id, &secret), (&old.key_id, &old_secret));
    assert_eq!((&new.name, &new.actor_id, &new.scopes), (&old.name, &old.actor_id, &old.scopes));
    assert_eq!((&new.metadata, &new.expire_time, new.status), (&old.metadata, &old.expire_time, old.status));

    let revoked = rotated.old_issued_api_key.unwrap();
    assert_eq!((&revoked.key_id, revoked.status), (&old.key_id, Some(KeyStatus::KeyStatusRevoked)));
    assert_eq!(revoked.revocation_reason, Some(RevocationReason::RevocationReasonSuperseded));
    assert_eq!(revoked.revocation_description.as_deref(), Some("rotated: replaced by new key"));
    assert_eq!(api::admin_get_issued_api_key(&sdk, &old_id).await.unwrap(), *revoked);
    let rejected = verify(&sdk, &old_secret).await;
    assert_eq!(rejected.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
    assert_eq!(verify(&sdk, &secret).await.key_id, new.key_id);
    assert_refused(api::admin_rotate_issued_api_key(&sdk, &old_id, body).await, 409, "FAILED_PRECONDITION");
}

#[tokio::test]
async fn rotation_sets_the_given_fields() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, _) = issue(&sdk, issue_request()).await;
    let body = AdminRotateIssuedApiKeyBody {
        name: Some("Orders, second".into()),
        scopes: Some(vec!["read".into()]),
        metadata: Some(json!({})),
        ip_restriction: Some(Box::new(IpRestriction { allowed_cidrs: Some(vec!["10.0.0.0/8".into()]) })),
        ..AdminRotateIssuedApiKeyBody::default()
    };
    let rotated = api::admin_rotate_issued_api_key(&sdk, &id, body.clone()).await.unwrap();
    let new = rotated.issued_api_key.unwrap();
    assert_eq!((&new.name, &new.scopes, &new.metadata), (&body.name, &body.scopes, &None));
    assert_eq!(new.ip_restriction, body.ip_restriction);
}

#[tokio::test]
async fn key_is_revoked_once_and_only_as_its_own_type() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, _) = issue(&sdk, issue_request()).await;
    let imported = api::admin_import_api_key(&sdk, import_request("sk_live_kind")).await.unwrap().key_id.unwrap();
    let body = AdminRevokeIssuedApiKeyBody {
        reason: Some(RevocationReason::RevocationReasonSuperseded),
        ..AdminRevokeIssuedApiKeyBody::default()
    };
    let described = AdminRevokeIssuedApiKeyBody { description: Some("why".into()), ..body };
    assert_refused(api::admin_revoke_issued_api_key(&sdk, &id, described).await, 400, "BAD_REQUEST");
    api::admin_revoke_issued_api_key(&sdk, &id, body.clone()).await.unwrap();
    assert_refused(api::admin_revoke_issued_api_key(&sdk, &id, body.clone()).await, 409, "CONFLICT");
    for unknown in [UNKNOWN_ISSUED, &imported] {
        let response = api::admin_revoke_issued_api_key(&sdk, unknown, body.clone()).await;
        assert_refused(response, 404, "API_KEY_NOT_FOUND");
    }
}
