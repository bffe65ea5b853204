//! Verification and self-revocation.

use ory_client::models::{
    KeyStatus, KeyVisibility, RevocationReason, SelfRevokeApiKeyRequest, VerificationErrorCode, VerifyApiKeyResponse,
};
use serde_json::json;

use crate::client::{Client, Outcome, hold, member};
use crate::issued::{Issued, is_revoked, key_for};

const ACTOR: &str = "first_sdk_verified";
const UNKNOWN: &str = "sk_live_nobody_knows";

/// Verifies single credentials.
pub(crate) async fn one(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let response = client.verify(&key.secret).await.ok()?;
    is_valid(&response, &key)?;
    is_unknown(&client.verify(UNKNOWN).await.ok()?)?;
    client.verify("").await.fails_with(400, "BAD_REQUEST")
}

fn is_valid(response: &VerifyApiKeyResponse, key: &Issued) -> Outcome {
    hold(response.is_valid == Some(true), "adminVerifyApiKey: an active key is valid")?;
    hold(
        response.error_code.is_none() && response.error_message.is_none(),
        "adminVerifyApiKey: no error with a valid key",
    )?;
    let who = (response.key_id.as_deref(), response.actor_id.as_deref());
    hold(who == (Some(key.id.as_str()), Some(ACTOR)), "adminVerifyApiKey: key_id and actor_id")?;
    hold(response.scopes == Some(vec!["write".into(), "read".into()]), "adminVerifyApiKey: scopes")?;
    hold(response.metadata == Some(json!({"team": "blue"})), "adminVerifyApiKey: metadata")?;
    hold(response.status == Some(KeyStatus::KeyStatusActive), "adminVerifyApiKey: status")?;
    hold(response.visibility == Some(KeyVisibility::KeyVisibilitySecret), "adminVerifyApiKey: visibility")?;
    let issuer = response.issuer.as_ref().is_some_and(|issuer| !issuer.is_empty());
    hold(issuer && response.expire_time.is_some(), "adminVerifyApiKey: issuer and expire_time")
}

fn is_unknown(response: &VerifyApiKeyResponse) -> Outcome {
    hold(response.is_valid == Some(false), "adminVerifyApiKey: an unknown key is not valid")?;
    let unknown = Some(VerificationErrorCode::VerificationErrorNotFound);
    hold(response.error_code == unknown, "adminVerifyApiKey: an unknown key is not found")?;
    hold(response.error_message.is_some(), "adminVerifyApiKey: an unknown key has an error_message")?;
    let empty = (response.key_id.as_deref(), response.issuer.as_deref(), response.status);
    let expected = (Some(""), Some(""), Some(KeyStatus::KeyStatusUnspecified));
    hold(empty == expected, "adminVerifyApiKey: the other members of an error are empty")
}

/// Verifies a batch: each credential has its own result, and invalid input fails the whole batch.
pub(crate) async fn many(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let credentials = [UNKNOWN, &key.secret, UNKNOWN, &key.secret];
    let results = client.batch_verify(&credentials).await.ok()?.results;
    let results = member(results, "adminBatchVerifyApiKeys: results")?;
    let valid = results.iter().map(|result| result.is_valid == Some(true));
    hold(valid.eq([false, true, false, true]), "adminBatchVerifyApiKeys: results in order, duplicates too")?;
    let names_key = results[1].key_id.as_deref() == Some(&key.id);
    hold(names_key, "adminBatchVerifyApiKeys: key_id of a valid key")?;
    client.batch_verify(&[&key.secret, ""]).await.fails_with(400, "BAD_REQUEST")?;
    client.batch_verify(&[]).await.fails_with(400, "BAD_REQUEST")
}

/// Revokes a key by its own credential.
pub(crate) async fn self_revoke(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let request = |credential: &str, reason| SelfRevokeApiKeyRequest {
        credential: Some(credential.to_owned()),
        reason: Some(reason),
    };
    let reason = RevocationReason::RevocationReasonKeyCompromise;
    let not_allowed = RevocationReason::RevocationReasonPrivilegeWithdrawn;
    client.self_revoke(request(&key.secret, not_allowed)).await.fails_with(400, "BAD_REQUEST")?;
    let response = client.self_revoke(request(&key.secret, reason)).await.ok()?;
    hold(response == json!({}), "revokeApiKey: the response is an empty object")?;
    is_revoked(client, &key.secret).await?;
    let read = client.get_issued(&key.id).await.ok()?;
    hold(read.revocation_reason == Some(reason), "revokeApiKey: revocation_reason")?;
    client.self_revoke(request(&key.secret, reason)).await.ok()?;
    client.self_revoke(request(UNKNOWN, reason)).await.fails_with(404, "API_KEY_NOT_FOUND")?;
    client.self_revoke(SelfRevokeApiKeyRequest::default()).await.fails_with(400, "BAD_REQUEST")
}
