//! Imported keys: import, get, list, update, revoke, delete, batches.

use ory_client::models::{
    AdminRevokeApiKeyBody, AdminUpdateImportedApiKeyRequest, BatchImportErrorCode, BatchImportResult,
    ImportApiKeyRequest, KeyStatus, KeyVisibility, RevocationReason,
};
use serde_json::json;

use crate::client::{Client, Outcome, hold, member};
use crate::issued::is_revoked;

const ACTOR: &str = "first_sdk_imported";
const RAW: &str = "sk_live_example";
/// The key id derived from the raw key in an installation with one tenant.
const ID: &str = "fac39ef9ebe858148631f90d6286e472593a2076af5b81c3d88bcfb82add4ab2";
const UNKNOWN: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const LIKE_ISSUED: &str = "ory_ak_v1_QixobFTdaD1U8mvQeXajr8YMeETPhCRFVUfV2uu8fm1xs3Rgo52Z6e7W9kkmh8xc_6XfesSJ5iHvvCJumCHHsKosyw1HQhqGpE2JGxqESDfoG";
const LIKE_JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln";

/// Imports a key, uses each operation on it and deletes it.
pub(crate) async fn lifecycle(client: &Client) -> Outcome {
    import(client).await?;
    get(client).await?;
    list(client).await?;
    update(client).await?;
    revoke(client).await?;
    delete(client).await
}

fn request(raw: &str) -> ImportApiKeyRequest {
    ImportApiKeyRequest {
        raw_key: Some(raw.into()),
        name: Some("Payments".into()),
        actor_id: Some(ACTOR.into()),
        scopes: Some(vec!["read".into()]),
        metadata: Some(json!({"from": "elsewhere"})),
        ttl: Some("30d".into()),
        ..ImportApiKeyRequest::default()
    }
}

async fn import(client: &Client) -> Outcome {
    let key = client.import(request(RAW)).await.ok()?;
    hold(key.key_id.as_deref() == Some(ID), "adminImportApiKey: key_id is derived from the raw key")?;
    let owner = (key.name.as_deref(), key.actor_id.as_deref());
    hold(owner == (Some("Payments"), Some(ACTOR)), "adminImportApiKey: name and actor_id")?;
    hold(key.scopes == Some(vec!["read".into()]), "adminImportApiKey: scopes")?;
    hold(key.metadata == Some(json!({"from": "elsewhere"})), "adminImportApiKey: metadata")?;
    hold(key.status == Some(KeyStatus::KeyStatusActive), "adminImportApiKey: the key is active")?;
    hold(key.visibility == Some(KeyVisibility::KeyVisibilitySecret), "adminImportApiKey: the key is secret")?;
    client.import(request(RAW)).await.fails_with(409, "API_KEY_EXISTS")?;
    client.import(request(LIKE_ISSUED)).await.fails_with(409, "CONFLICT")?;
    client.import(request(LIKE_JWT)).await.fails_with(409, "FAILED_PRECONDITION")?;
    client.import(request("")).await.fails_with(400, "BAD_REQUEST")
}

async fn get(client: &Client) -> Outcome {
    let key = client.get_imported(ID).await.ok()?;
    hold(key.key_id.as_deref() == Some(ID), "adminGetImportedApiKey: key_id")?;
    hold(key.name.as_deref() == Some("Payments"), "adminGetImportedApiKey: name")?;
    client.get_imported(UNKNOWN).await.fails_with(404, "API_KEY_NOT_FOUND")?;
    client.get_issued(ID).await.fails_with(404, "API_KEY_NOT_FOUND")
}

async fn list(client: &Client) -> Outcome {
    client.import(request("sk_live_first_sdk_second")).await.ok()?;
    let filter = format!("actor_id=\"{ACTOR}\" AND status=KEY_STATUS_ACTIVE");
    let first = client.list_imported(1, None, &filter).await.ok()?;
    let mut keys = member(first.imported_api_keys, "adminListImportedApiKeys: imported_api_keys")?;
    hold(keys.len() == 1, "adminListImportedApiKeys: a page has the requested size")?;
    let token = member(first.next_page_token, "adminListImportedApiKeys: next_page_token")?;
    let last = client.list_imported(1, Some(&token), &filter).await.ok()?;
    keys.extend(member(last.imported_api_keys, "adminListImportedApiKeys: imported_api_keys")?);
    hold(last.next_page_token.as_deref() == Some(""), "adminListImportedApiKeys: a full last page has no token")?;
    hold(keys.len() == 2, "adminListImportedApiKeys: the pages hold the actor's keys")?;
    hold(keys.is_sorted_by(|a, b| a.key_id > b.key_id), "adminListImportedApiKeys: key_id descends")?;
    client.list_imported(1001, None, &filter).await.fails_with(400, "BAD_REQUEST")
}

async fn update(client: &Client) -> Outcome {
    let change = AdminUpdateImportedApiKeyRequest {
        name: Some("Renamed".into()),
        metadata: Some(json!({"team": "red"})),
        ..AdminUpdateImportedApiKeyRequest::default()
    };
    let key = client.update_imported(ID, change.clone(), Some("metadata,scopes")).await.ok()?;
    hold(key.metadata == change.metadata, "adminUpdateImportedApiKey: what the mask lists is set")?;
    hold(
        key.scopes == Some(Vec::new()),
        "adminUpdateImportedApiKey: what the mask lists and the body lacks is cleared",
    )?;
    hold(key.name.as_deref() == Some("Payments"), "adminUpdateImportedApiKey: what the mask lacks stays")?;
    client.update_imported(ID, change.clone(), Some("*")).await.fails_with(400, "BAD_REQUEST")?;
    client.update_imported(UNKNOWN, change, None).await.fails_with(404, "API_KEY_NOT_FOUND")
}

async fn revoke(client: &Client) -> Outcome {
    let body = AdminRevokeApiKeyBody {
        reason: Some(RevocationReason::RevocationReasonAffiliationChanged),
        ..AdminRevokeApiKeyBody::default()
    };
    client.revoke(ID, body.clone()).await.ok()?;
    is_revoked(client, RAW).await?;
    let key = client.get_imported(ID).await.ok()?;
    hold(key.status == Some(KeyStatus::KeyStatusRevoked), "adminRevokeApiKey: an imported key is revoked")?;
    hold(key.revocation_reason == body.reason, "adminRevokeApiKey: revocation_reason of an imported key")?;
    client.revoke(ID, body.clone()).await.fails_with(409, "CONFLICT")?;
    client.revoke(UNKNOWN, body).await.fails_with(404, "API_KEY_NOT_FOUND")?;
    client.import(request(RAW)).await.fails_with(409, "API_KEY_EXISTS")
}

async fn delete(client: &Client) -> Outcome {
    client.delete_imported(ID).await.done()?;
    client.get_imported(ID).await.fails_with(404, "API_KEY_NOT_FOUND")?;
    client.delete_imported(ID).await.fails_with(404, "API_KEY_NOT_FOUND")?;
    let key = client.import(request(RAW)).await.ok()?;
    hold(key.key_id.as_deref() == Some(ID), "adminDeleteImportedApiKey: the raw key can be imported again")
}

/// A batch with valid and invalid items, then batches without a valid one.
pub(crate) async fn batch(client: &Client) -> Outcome {
    use BatchImportErrorCode::{
        BatchImportErrorAlreadyExists, BatchImportErrorFailedPrecondition, BatchImportErrorInvalidArgument,
    };
    let nameless = ImportApiKeyRequest { name: None, ..request("sk_live_nameless") };
    let items = ["sk_live_batch", "sk_live_batch", RAW, LIKE_ISSUED, LIKE_JWT].map(request);
    let response = client.batch_import(items.into_iter().chain([nameless]).collect()).await.ok()?;
    let counts = (response.success_count, response.failure_count);
    hold(counts == (Some(1), Some(5)), "adminBatchImportApiKeys: success_count and failure_count")?;
    let results = member(response.results, "adminBatchImportApiKeys: results")?;
    hold(results.iter().map(|item| item.index).eq((0..6).map(Some)), "adminBatchImportApiKeys: indexes in order")?;
    let codes = [
        None,
        Some(BatchImportErrorAlreadyExists),
        Some(BatchImportErrorAlreadyExists),
        Some(BatchImportErrorFailedPrecondition),
        Some(BatchImportErrorFailedPrecondition),
        Some(BatchImportErrorInvalidArgument),
    ];
    hold(results.iter().map(|item| item.error_code).eq(codes), "adminBatchImportApiKeys: error codes")?;
    hold(results.iter().all(has_key_or_error), "adminBatchImportApiKeys: an item has a key or an error")?;

    client.batch_import(vec![request(RAW)]).await.fails_with(409, "API_KEY_EXISTS")?;
    client.batch_import(vec![request(LIKE_JWT)]).await.fails_with(409, "FAILED_PRECONDITION")?;
    client.batch_import(Vec::new()).await.fails_with(400, "BAD_REQUEST")
}

fn has_key_or_error(item: &BatchImportResult) -> bool {
    let failed = item.error_code.is_some();
    item.imported_api_key.is_none() == failed && item.error_message.is_some() == failed
}
