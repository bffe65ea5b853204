//! Imported keys: import, list, update, revoke, delete, batches.

use ory_client::apis::api_keys_api as api;
use ory_client::models::{
    AdminRevokeImportedApiKeyBody, AdminUpdateImportedApiKeyRequest, BatchCreateImportedApiKeysErrorCode as Code,
    BatchCreateImportedApiKeysRequest, ImportApiKeyRequest, KeyStatus, KeyVisibility, RevocationReason,
    VerificationErrorCode,
};
use serde_json::json;

use super::{UNKNOWN_IMPORTED, assert_refused, import_request, issue, issue_request, sdk, verify};
use crate::support::keygate::Keygate;

const RAW: &str = "sk_live_example";
/// Its key id, which is derived from the raw key.
const ID: &str = "fac39ef9ebe858148631f90d6286e472593a2076af5b81c3d88bcfb82add4ab2";
const LIKE_ISSUED: &str = "ory_ak_v1_QixobFTdaD1U8mvQeXajr8YMeETPhCRFVUfV2uu8fm1xs3Rgo52Z6e7W9kkmh8xc_6XfesSJ5iHvvCJumCHHsKosyw1HQhqGpE2JGxqESDfoG";
const LIKE_JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln";
const LIKE_MACAROON: &str = "mc_v1_AgEXaHR0cHM6Ly9hcGkuZXhhbXBsZS5jb20";

#[tokio::test]
async fn raw_key_is_imported_and_verified() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let key = api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    assert_eq!(key.key_id.as_deref(), Some(ID));
    assert_eq!((key.name.as_deref(), key.actor_id.as_deref()), (Some("Payments"), Some("user_2")));
    assert_eq!((key.status, key.revocation_reason), (Some(KeyStatus::KeyStatusActive), None));
    assert!(key.expire_time.is_some(), "the default ttl applies to imported keys too");
    assert_eq!(api::admin_get_imported_api_key(&sdk, ID).await.unwrap(), key);

    let valid = verify(&sdk, RAW).await;
    assert_eq!((valid.is_valid, valid.key_id.as_deref()), (Some(true), Some(ID)));
    assert_eq!((valid.scopes, valid.metadata), (key.scopes, key.metadata));
}

#[tokio::test]
async fn duplicate_or_conflicting_raw_key_is_not_imported() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    for (raw, status, reason) in [
        (RAW, 409, "API_KEY_EXISTS"),
        (LIKE_ISSUED, 409, "CONFLICT"),
        (LIKE_JWT, 409, "FAILED_PRECONDITION"),
        (LIKE_MACAROON, 409, "FAILED_PRECONDITION"),
        ("", 400, "BAD_REQUEST"),
    ] {
        assert_refused(api::admin_import_api_key(&sdk, import_request(raw)).await, status, reason);
    }
}

#[tokio::test]
async fn repeated_request_id_returns_the_first_imported_key() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let request = |raw| ImportApiKeyRequest { request_id: Some("once".into()), ..import_request(raw) };
    let first = api::admin_import_api_key(&sdk, request(RAW)).await.unwrap();
    assert_eq!(api::admin_import_api_key(&sdk, request("sk_live_other")).await.unwrap(), first);
}

#[tokio::test]
async fn operations_of_one_key_type_reject_ids_of_the_other() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, issued, _) = issue(&sdk, issue_request()).await;
    api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    assert_refused(api::admin_get_issued_api_key(&sdk, ID).await, 404, "API_KEY_NOT_FOUND");
    assert_refused(api::admin_get_imported_api_key(&sdk, &issued).await, 404, "API_KEY_NOT_FOUND");
    assert_refused(api::admin_get_imported_api_key(&sdk, UNKNOWN_IMPORTED).await, 404, "API_KEY_NOT_FOUND");
    assert_refused(api::admin_delete_imported_api_key(&sdk, &issued).await, 404, "API_KEY_NOT_FOUND");
    let revoked = api::admin_revoke_imported_api_key(&sdk, &issued, AdminRevokeImportedApiKeyBody::default()).await;
    assert_refused(revoked, 404, "API_KEY_NOT_FOUND");
}

#[tokio::test]
async fn imported_keys_are_listed_by_filter_and_in_pages() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    issue(&sdk, issue_request()).await;
    let mut expected = Vec::new();
    for number in 0..4 {
        let request = import_request(&format!("sk_live_{number}"));
        expected.push(api::admin_import_api_key(&sdk, request).await.unwrap().key_id.unwrap());
    }
    expected.sort_unstable_by(|a, b| b.cmp(a));

    let (mut listed, mut sizes, mut token) = (Vec::new(), Vec::new(), None);
    while token.as_deref() != Some("") {
        let filter = Some("actor_id=user_2 AND status=KEY_STATUS_ACTIVE");
        let page = api::admin_list_imported_api_keys(&sdk, Some(2), token.as_deref(), filter).await.unwrap();
        let keys = page.imported_api_keys.unwrap();
        assert!(!keys.is_empty() && listed.len() <= expected.len(), "too many pages");
        sizes.push(keys.len());
        listed.extend(keys.into_iter().filter_map(|key| key.key_id));
        token = Some(page.next_page_token.unwrap());
    }
    assert_eq!((listed, sizes), (expected, vec![2, 2]), "a full last page has no next page token");
    assert_refused(api::admin_list_imported_api_keys(&sdk, None, Some("bad"), None).await, 400, "BAD_REQUEST");
}

#[tokio::test]
async fn imported_key_is_updated() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    let change = AdminUpdateImportedApiKeyRequest {
        name: Some("masked out".into()),
        metadata: Some(json!({"team": "red"})),
        ..AdminUpdateImportedApiKeyRequest::default()
    };
    let mask = Some("scopes,metadata");
    let key = api::admin_update_imported_api_key(&sdk, ID, change.clone(), mask).await.unwrap();
    assert_eq!((key.name.as_deref(), key.scopes), (Some("Payments"), Some(Vec::new())));
    assert_eq!(key.metadata, Some(json!({"team": "red"})));
    assert_eq!(verify(&sdk, RAW).await.metadata, Some(json!({"team": "red"})));

    let cleared =
        AdminUpdateImportedApiKeyRequest { metadata: Some(json!({})), ..AdminUpdateImportedApiKeyRequest::default() };
    let key = api::admin_update_imported_api_key(&sdk, ID, cleared, None).await.unwrap();
    assert_eq!((key.name.as_deref(), key.metadata), (Some("Payments"), None));
    let response = api::admin_update_imported_api_key(&sdk, ID, change.clone(), Some("raw_key")).await;
    assert_refused(response, 400, "BAD_REQUEST");
    let response = api::admin_update_imported_api_key(&sdk, UNKNOWN_IMPORTED, change, None).await;
    assert_refused(response, 404, "API_KEY_NOT_FOUND");
}

#[tokio::test]
async fn revoked_imported_key_cannot_be_imported_again() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    let body = AdminRevokeImportedApiKeyBody {
        reason: Some(RevocationReason::RevocationReasonPrivilegeWithdrawn),
        description: Some("left".into()),
    };
    api::admin_revoke_imported_api_key(&sdk, ID, body.clone()).await.unwrap();
    let key = api::admin_get_imported_api_key(&sdk, ID).await.unwrap();
    assert_eq!((key.status, key.revocation_reason), (Some(KeyStatus::KeyStatusRevoked), body.reason));
    assert_eq!(key.revocation_description, body.description);
    assert_eq!(verify(&sdk, RAW).await.error_code, Some(VerificationErrorCode::VerificationErrorRevoked));
    assert_refused(api::admin_revoke_imported_api_key(&sdk, ID, body).await, 409, "CONFLICT");
    assert_refused(api::admin_import_api_key(&sdk, import_request(RAW)).await, 409, "API_KEY_EXISTS");
}

#[tokio::test]
async fn deleted_key_is_unknown_and_can_be_imported_again() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    assert_eq!(verify(&sdk, RAW).await.is_valid, Some(true));
    api::admin_delete_imported_api_key(&sdk, ID).await.unwrap();
    assert_eq!(verify(&sdk, RAW).await.error_code, Some(VerificationErrorCode::VerificationErrorNotFound));
    assert_refused(api::admin_get_imported_api_key(&sdk, ID).await, 404, "API_KEY_NOT_FOUND");
    assert_refused(api::admin_delete_imported_api_key(&sdk, ID).await, 404, "API_KEY_NOT_FOUND");
    let again = ImportApiKeyRequest { visibility: Some(KeyVisibility::KeyVisibilityPublic), ..import_request(RAW) };
    let key = api::admin_import_api_key(&sdk, again).await.unwrap();
    assert_eq!((key.key_id.as_deref(), key.visibility), (Some(ID), Some(KeyVisibility::KeyVisibilityPublic)));
    assert_eq!(verify(&sdk, RAW).await.is_valid, Some(true));
}

#[tokio::test]
async fn batch_imports_valid_items_and_reports_the_errors_of_the_others() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    let nameless = ImportApiKeyRequest { name: None, ..import_request("sk_live_3") };
    let items = ["sk_live_1", RAW, "sk_live_1", LIKE_ISSUED, LIKE_JWT, "sk_live_2"].map(import_request);
    let requests = Some(items.into_iter().chain([nameless]).collect());
    let batch = BatchCreateImportedApiKeysRequest { requests };
    let response = api::admin_batch_create_imported_api_keys(&sdk, batch).await.unwrap();
    assert_eq!((response.success_count, response.failure_count), (Some(2), Some(5)));

    let results = response.results.unwrap();
    assert_eq!(results.iter().filter_map(|item| item.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    let codes: Vec<_> = results.iter().map(|item| item.error_code).collect();
    let exists = Some(Code::BatchCreateImportedApiKeysErrorAlreadyExists);
    let precondition = Some(Code::BatchCreateImportedApiKeysErrorFailedPrecondition);
    let invalid = Some(Code::BatchCreateImportedApiKeysErrorInvalidArgument);
    assert_eq!(codes, [None, exists, exists, precondition, precondition, None, invalid]);
    assert!(results[2].error_message.as_ref().unwrap().contains('0'), "the first of two equal keys is named");
    for item in results {
        assert_eq!(item.imported_api_key.is_some(), item.error_code.is_none());
        assert_eq!(item.error_message.is_some(), item.error_code.is_some());
        if let Some(key) = item.imported_api_key {
            assert_eq!(api::admin_get_imported_api_key(&sdk, &key.key_id.clone().unwrap()).await.unwrap(), *key);
        }
    }
}

#[tokio::test]
async fn batch_without_a_valid_item_fails_with_the_most_frequent_error() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    api::admin_import_api_key(&sdk, import_request(RAW)).await.unwrap();
    for (raw_keys, status, reason) in [
        (&[RAW, LIKE_JWT][..], 409, "API_KEY_EXISTS"),
        (&[RAW, LIKE_JWT, LIKE_ISSUED], 409, "FAILED_PRECONDITION"),
        (&[RAW, "", ""], 400, "BAD_REQUEST"),
        (&[], 400, "BAD_REQUEST"),
    ] {
        let requests = Some(raw_keys.iter().map(|raw| import_request(raw)).collect());
        let batch = BatchCreateImportedApiKeysRequest { requests };
        assert_refused(api::admin_batch_create_imported_api_keys(&sdk, batch).await, status, reason);
    }
}
