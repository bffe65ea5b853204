//! Judging credentials, and giving them up.

use ory_client::models::{
    KeyStatus, KeyVisibility, RevocationReason, SelfRevokeApiKeyRequest, VerificationErrorCode, VerifyApiKeyResponse,
};
use serde_json::json;

use crate::client::{Client, Outcome, hold, member};
use crate::issued::{Issued, is_revoked, key_for};

const ACTOR: &str = "first_sdk_verified";
const UNKNOWN: &str = "sk_live_nobody_knows";

/// One credential at a time.
pub(crate) async fn one(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let answer = client.verify(&key.secret).await.ok()?;
    is_valid(&answer, &key)?;
    is_unknown(&client.verify(UNKNOWN).await.ok()?)?;
    client.verify("").await.refused(400, "BAD_REQUEST")
}

fn is_valid(answer: &VerifyApiKeyResponse, key: &Issued) -> Outcome {
    hold(answer.is_valid == Some(true), "adminVerifyApiKey: a good key is valid")?;
    hold(answer.error_code.is_none() && answer.error_message.is_none(), "adminVerifyApiKey: no error with a good key")?;
    let who = (answer.key_id.as_deref(), answer.actor_id.as_deref());
    hold(who == (Some(key.id.as_str()), Some(ACTOR)), "adminVerifyApiKey: key_id and actor_id")?;
    hold(answer.scopes == Some(vec!["write".into(), "read".into()]), "adminVerifyApiKey: scopes")?;
    hold(answer.metadata == Some(json!({"team": "blue"})), "adminVerifyApiKey: metadata")?;
    hold(answer.status == Some(KeyStatus::KeyStatusActive), "adminVerifyApiKey: status")?;
    hold(answer.visibility == Some(KeyVisibility::KeyVisibilitySecret), "adminVerifyApiKey: visibility")?;
    let issuer = answer.issuer.as_ref().is_some_and(|issuer| !issuer.is_empty());
    hold(issuer && answer.expire_time.is_some(), "adminVerifyApiKey: issuer and expire_time")
}

fn is_unknown(answer: &VerifyApiKeyResponse) -> Outcome {
    hold(answer.is_valid == Some(false), "adminVerifyApiKey: an unknown key is not valid")?;
    let unknown = Some(VerificationErrorCode::VerificationErrorNotFound);
    hold(answer.error_code == unknown, "adminVerifyApiKey: an unknown key is not found")?;
    hold(answer.error_message.is_some(), "adminVerifyApiKey: an unknown key has an error_message")?;
    let empty = (answer.key_id.as_deref(), answer.issuer.as_deref(), answer.status);
    let expected = (Some(""), Some(""), Some(KeyStatus::KeyStatusUnspecified));
    hold(empty == expected, "adminVerifyApiKey: the other members of a refusal are empty")
}

/// Many at once; each is judged alone, and malformed input refuses them all.
pub(crate) async fn many(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let credentials = [UNKNOWN, &key.secret, UNKNOWN, &key.secret];
    let results = client.batch_verify(&credentials).await.ok()?.results;
    let results = member(results, "adminBatchVerifyApiKeys: results")?;
    let valid = results.iter().map(|result| result.is_valid == Some(true));
    hold(valid.eq([false, true, false, true]), "adminBatchVerifyApiKeys: results in order, duplicates too")?;
    let names_key = results[1].key_id.as_deref() == Some(&key.id);
    hold(names_key, "adminBatchVerifyApiKeys: key_id of a good key")?;
    client.batch_verify(&[&key.secret, ""]).await.refused(400, "BAD_REQUEST")?;
    client.batch_verify(&[]).await.refused(400, "BAD_REQUEST")
}

/// The holder of a key ends it.
pub(crate) async fn self_revoke(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let request = |credential: &str, reason| SelfRevokeApiKeyRequest {
        credential: Some(credential.to_owned()),
        reason: Some(reason),
    };
    let reason = RevocationReason::RevocationReasonKeyCompromise;
    let not_for_holders = RevocationReason::RevocationReasonPrivilegeWithdrawn;
    client.self_revoke(request(&key.secret, not_for_holders)).await.refused(400, "BAD_REQUEST")?;
    let answer = client.self_revoke(request(&key.secret, reason)).await.ok()?;
    hold(answer == json!({}), "revokeApiKey: the answer is an empty object")?;
    is_revoked(client, &key.secret).await?;
    let read = client.get_issued(&key.id).await.ok()?;
    hold(read.revocation_reason == Some(reason), "revokeApiKey: revocation_reason")?;
    client.self_revoke(request(&key.secret, reason)).await.ok()?;
    client.self_revoke(request(UNKNOWN, reason)).await.refused(404, "API_KEY_NOT_FOUND")?;
    client.self_revoke(SelfRevokeApiKeyRequest::default()).await.refused(400, "BAD_REQUEST")
}
