//! Issued keys: issue, get, list, update, rotate, revoke.

use ory_client::models::{
    AdminRevokeApiKeyBody, AdminRotateIssuedApiKeyBody, AdminUpdateIssuedApiKeyRequest, IpRestriction,
    IssueApiKeyRequest, IssuedApiKey, KeyStatus, KeyVisibility, RateLimitPolicy, RevocationReason,
    VerificationErrorCode,
};
use serde_json::json;

use crate::client::{Client, Outcome, hold, member};

const ACTOR: &str = "first_sdk_issued";
/// No key has this id.
pub(crate) const UNKNOWN: &str = "11111111-2222-4333-8444-555555555555";

/// A key and its secret, which must not be printed.
pub(crate) struct Issued {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Issues a key, uses each operation on it and revokes it.
pub(crate) async fn lifecycle(client: &Client) -> Outcome {
    let key = issue(client).await?;
    get(client, &key).await?;
    list(client).await?;
    update(client, &key.id).await?;
    let key = rotate(client, &key).await?;
    revoke(client, &key).await
}

/// Issues a key for a test of another operation.
pub(crate) async fn key_for(client: &Client, actor: &str) -> Outcome<Issued> {
    let response = client.issue(request(actor)).await.ok()?;
    let key = member(response.issued_api_key, "adminIssueApiKey: issued_api_key")?;
    let id = member(key.key_id, "adminIssueApiKey: issued_api_key.key_id")?;
    Ok(Issued { id, secret: member(response.secret, "adminIssueApiKey: secret")? })
}

fn request(actor: &str) -> IssueApiKeyRequest {
    IssueApiKeyRequest {
        name: Some("Orders".into()),
        actor_id: Some(actor.into()),
        scopes: Some(vec!["write".into(), "read".into()]),
        ttl: Some("30d".into()),
        metadata: Some(json!({"team": "blue"})),
        ..IssueApiKeyRequest::default()
    }
}

async fn issue(client: &Client) -> Outcome<Issued> {
    let body = IssueApiKeyRequest {
        rate_limit_policy: Some(Box::new(RateLimitPolicy {
            quota: Some("100".into()),
            window: Some("60s".into()),
            ..RateLimitPolicy::default()
        })),
        ip_restriction: Some(Box::new(IpRestriction { allowed_cidrs: Some(vec!["127.0.0.0/8".into()]) })),
        request_id: Some("first-sdk".into()),
        ..request(ACTOR)
    };
    let response = client.issue(body.clone()).await.ok()?;
    let key = member(response.issued_api_key, "adminIssueApiKey: issued_api_key")?;
    let secret = member(response.secret, "adminIssueApiKey: secret")?;
    has_requested_fields(&key)?;
    hold(secret.starts_with("ory_ak_v1_"), "adminIssueApiKey: the secret has the prefix")?;

    let again = client.issue(body).await.ok()?;
    hold(again.issued_api_key.as_ref() == Some(&key), "adminIssueApiKey: a repeated request_id is the first key")?;
    hold(again.secret.as_deref() == Some(""), "adminIssueApiKey: a repeated request_id shows no secret")?;
    client.issue(IssueApiKeyRequest::default()).await.fails_with(400, "BAD_REQUEST")?;
    Ok(Issued { id: member(key.key_id, "adminIssueApiKey: issued_api_key.key_id")?, secret })
}

fn has_requested_fields(key: &IssuedApiKey) -> Outcome {
    let is_uuid = key.key_id.as_ref().is_some_and(|id| id.len() == 36);
    hold(is_uuid, "adminIssueApiKey: key_id is a UUID")?;
    let owner = (key.name.as_deref(), key.actor_id.as_deref());
    hold(owner == (Some("Orders"), Some(ACTOR)), "adminIssueApiKey: name and actor_id")?;
    let scopes = Some(vec!["write".into(), "read".into()]);
    hold(key.scopes == scopes, "adminIssueApiKey: scopes in the given order")?;
    hold(key.metadata == Some(json!({"team": "blue"})), "adminIssueApiKey: metadata")?;
    hold(key.status == Some(KeyStatus::KeyStatusActive), "adminIssueApiKey: the key is active")?;
    hold(key.visibility == Some(KeyVisibility::KeyVisibilitySecret), "adminIssueApiKey: the key is secret")?;
    let times = key.create_time.is_some() && key.update_time.is_some() && key.expire_time.is_some();
    hold(times, "adminIssueApiKey: create_time, update_time and expire_time")?;
    let unset = key.last_used_time.is_none() && key.revocation_reason.is_none();
    hold(unset, "adminIssueApiKey: no last_used_time and no revocation_reason")?;
    has_limits(key)
}

fn has_limits(key: &IssuedApiKey) -> Outcome {
    let policy =
        RateLimitPolicy { quota: Some("100".into()), unit: Some("requests".into()), window: Some("60s".into()) };
    hold(key.rate_limit_policy.as_deref() == Some(&policy), "adminIssueApiKey: rate_limit_policy")?;
    let ranges = IpRestriction { allowed_cidrs: Some(vec!["127.0.0.0/8".into()]) };
    hold(key.ip_restriction.as_deref() == Some(&ranges), "adminIssueApiKey: ip_restriction")
}

async fn get(client: &Client, key: &Issued) -> Outcome {
    let read = client.get_issued(&key.id).await.ok()?;
    hold(read.key_id.as_deref() == Some(&key.id), "adminGetIssuedApiKey: key_id")?;
    hold(read.name.as_deref() == Some("Orders"), "adminGetIssuedApiKey: name")?;
    client.get_issued(UNKNOWN).await.fails_with(404, "API_KEY_NOT_FOUND")
}

async fn list(client: &Client) -> Outcome {
    key_for(client, ACTOR).await?;
    key_for(client, ACTOR).await?;
    let filter = format!("actor_id=\"{ACTOR}\"");
    let first = client.list_issued(2, None, &filter).await.ok()?;
    let mut keys = member(first.issued_api_keys, "adminListIssuedApiKeys: issued_api_keys")?;
    hold(keys.len() == 2, "adminListIssuedApiKeys: a page has the requested size")?;
    let token = member(first.next_page_token, "adminListIssuedApiKeys: next_page_token")?;
    let last = client.list_issued(2, Some(&token), &filter).await.ok()?;
    keys.extend(member(last.issued_api_keys, "adminListIssuedApiKeys: issued_api_keys")?);
    hold(last.next_page_token.as_deref() == Some(""), "adminListIssuedApiKeys: the last page has no token")?;
    hold(keys.len() == 3, "adminListIssuedApiKeys: the pages hold the actor's keys")?;
    hold(keys.is_sorted_by(|a, b| a.key_id > b.key_id), "adminListIssuedApiKeys: key_id descends")?;
    client.list_issued(2, Some("bad"), &filter).await.fails_with(400, "BAD_REQUEST")?;
    client.list_issued(2, None, "name=\"x\"").await.fails_with(400, "BAD_REQUEST")
}

async fn update(client: &Client, id: &str) -> Outcome {
    let change = AdminUpdateIssuedApiKeyRequest {
        name: Some("Renamed".into()),
        scopes: Some(vec!["masked out".into()]),
        ..AdminUpdateIssuedApiKeyRequest::default()
    };
    let key = client.update_issued(id, change.clone(), Some("name,metadata")).await.ok()?;
    hold(key.name.as_deref() == Some("Renamed"), "adminUpdateIssuedApiKey: what the mask lists is set")?;
    hold(key.metadata.is_none(), "adminUpdateIssuedApiKey: what the mask lists and the body lacks is cleared")?;
    let scopes = Some(vec!["write".into(), "read".into()]);
    hold(key.scopes == scopes, "adminUpdateIssuedApiKey: what the mask lacks stays")?;

    let change =
        AdminUpdateIssuedApiKeyRequest { scopes: Some(vec!["read".into()]), ..AdminUpdateIssuedApiKeyRequest::new() };
    let key = client.update_issued(id, change.clone(), None).await.ok()?;
    hold(key.scopes == change.scopes, "adminUpdateIssuedApiKey: without a mask, what is given is set")?;
    hold(key.name.as_deref() == Some("Renamed"), "adminUpdateIssuedApiKey: without a mask, the rest stays")?;
    client.update_issued(id, change.clone(), Some("actor_id")).await.fails_with(400, "BAD_REQUEST")?;
    client.update_issued(UNKNOWN, change, None).await.fails_with(404, "API_KEY_NOT_FOUND")
}

async fn rotate(client: &Client, old: &Issued) -> Outcome<Issued> {
    let before = client.get_issued(&old.id).await.ok()?;
    let response = client.rotate(&old.id, AdminRotateIssuedApiKeyBody::default()).await.ok()?;
    let new = member(response.issued_api_key, "adminRotateIssuedApiKey: issued_api_key")?;
    let inherits = (&new.name, &new.scopes, &new.actor_id) == (&before.name, &before.scopes, &before.actor_id);
    hold(inherits, "adminRotateIssuedApiKey: name, scopes and actor_id are inherited")?;
    hold(new.expire_time == before.expire_time, "adminRotateIssuedApiKey: expire_time is inherited")?;
    let replaced = member(response.old_issued_api_key, "adminRotateIssuedApiKey: old_issued_api_key")?;
    hold(replaced.key_id.as_deref() == Some(&old.id), "adminRotateIssuedApiKey: old_issued_api_key.key_id")?;
    hold(replaced.status == Some(KeyStatus::KeyStatusRevoked), "adminRotateIssuedApiKey: the old key is revoked")?;

    let read = client.get_issued(&old.id).await.ok()?;
    let superseded = Some(RevocationReason::RevocationReasonSuperseded);
    hold(read.revocation_reason == superseded, "adminRotateIssuedApiKey: the old key is superseded")?;
    is_revoked(client, &old.secret).await?;
    client.rotate(&old.id, AdminRotateIssuedApiKeyBody::default()).await.fails_with(409, "FAILED_PRECONDITION")?;
    let id = member(new.key_id, "adminRotateIssuedApiKey: issued_api_key.key_id")?;
    let new = Issued { id, secret: member(response.secret, "adminRotateIssuedApiKey: secret")? };
    hold(new.id != old.id && new.secret != old.secret, "adminRotateIssuedApiKey: key_id and secret are new")?;
    Ok(new)
}

async fn revoke(client: &Client, key: &Issued) -> Outcome {
    let wrong = AdminRevokeApiKeyBody {
        reason: Some(RevocationReason::RevocationReasonKeyCompromise),
        description: Some("only with PRIVILEGE_WITHDRAWN".into()),
    };
    client.revoke(&key.id, wrong).await.fails_with(400, "BAD_REQUEST")?;
    let right = AdminRevokeApiKeyBody {
        reason: Some(RevocationReason::RevocationReasonPrivilegeWithdrawn),
        description: Some("left".into()),
    };
    client.revoke(&key.id, right.clone()).await.ok()?;
    is_revoked(client, &key.secret).await?;
    let read = client.get_issued(&key.id).await.ok()?;
    hold(read.status == Some(KeyStatus::KeyStatusRevoked), "adminRevokeApiKey: an issued key is revoked")?;
    hold(read.revocation_reason == right.reason, "adminRevokeApiKey: revocation_reason")?;
    hold(read.revocation_description == right.description, "adminRevokeApiKey: revocation_description")?;
    client.revoke(&key.id, right).await.fails_with(409, "CONFLICT")?;
    client.revoke(UNKNOWN, AdminRevokeApiKeyBody::default()).await.fails_with(404, "API_KEY_NOT_FOUND")
}

/// Asserts that verification rejects a credential as revoked.
pub(crate) async fn is_revoked(client: &Client, credential: &str) -> Outcome {
    let response = client.verify(credential).await.ok()?;
    hold(response.is_valid == Some(false), "adminVerifyApiKey: a revoked key is not valid")?;
    let revoked = Some(VerificationErrorCode::VerificationErrorRevoked);
    hold(response.error_code == revoked, "adminVerifyApiKey: a revoked key is rejected as revoked")
}
