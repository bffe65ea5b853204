//! Derived tokens and the published signing keys.

use ory_client::models::{
    AdminRevokeApiKeyBody, DeriveTokenRequest, SelfRevokeApiKeyRequest, Token, TokenAlgorithm, VerificationErrorCode,
};
use serde_json::{Value, json};

use crate::client::{Client, Outcome, hold, member};
use crate::issued::{Issued, key_for};

const ACTOR: &str = "first_sdk_derived";

/// Derives and verifies a JWT and a macaroon.
pub(crate) async fn derive(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let jwt = token(client, &key, TokenAlgorithm::TokenAlgorithmJwt).await?;
    hold(jwt.starts_with("eyJ") && jwt.split('.').count() == 3, "adminDeriveToken: a JWT has three parts")?;
    let macaroon = token(client, &key, TokenAlgorithm::TokenAlgorithmMacaroon).await?;
    hold(macaroon.starts_with("mc_v1_"), "adminDeriveToken: a macaroon has the prefix")?;

    let unsigned = jwt.rsplit_once('.').map_or("", |(unsigned, _)| unsigned);
    is_forged(client, &format!("{unsigned}.c2ln"), "a JWT with another signature").await?;
    is_forged(client, &macaroon[..macaroon.len() - 4], "a macaroon with a cut signature").await
}

async fn is_forged(client: &Client, credential: &str, what: &str) -> Outcome {
    let code = client.verify(credential).await.ok()?.error_code;
    let expected = Some(VerificationErrorCode::VerificationErrorSignatureInvalid);
    hold(code == expected, &format!("adminVerifyApiKey: {what} is rejected by its signature"))
}

fn request(credential: &str) -> DeriveTokenRequest {
    DeriveTokenRequest { credential: Some(credential.to_owned()), ..DeriveTokenRequest::default() }
}

async fn token(client: &Client, key: &Issued, algorithm: TokenAlgorithm) -> Outcome<String> {
    let body = DeriveTokenRequest {
        algorithm: Some(algorithm),
        ttl: Some("10m".into()),
        scopes: Some(vec!["read".into()]),
        custom_claims: Some(json!({"order": "o-7", "iss": "other issuer"})),
        ..request(&key.secret)
    };
    let token = member(client.derive(body).await.ok()?.token, "adminDeriveToken: token")?;
    has_requested_claims(&token)?;
    let token = member(token.token, "adminDeriveToken: token.token")?;

    let response = client.verify(&token).await.ok()?;
    hold(response.is_valid == Some(true), "adminVerifyApiKey: a derived token is valid")?;
    let who = (response.key_id.as_deref(), response.actor_id.as_deref());
    hold(who == (Some(key.id.as_str()), Some(ACTOR)), "adminVerifyApiKey: a derived token names its parent")?;
    hold(response.scopes == Some(vec!["read".into()]), "adminVerifyApiKey: scopes of a derived token")?;
    let metadata = json!({"team": "blue", "order": "o-7"});
    hold(response.metadata == Some(metadata), "adminVerifyApiKey: metadata of a derived token")?;
    Ok(token)
}

fn has_requested_claims(token: &Token) -> Outcome {
    hold(token.scopes == Some(vec!["read".into()]), "adminDeriveToken: token.scopes")?;
    hold(token.expire_time.is_some(), "adminDeriveToken: token.expire_time")?;
    let claims = json!({"team": "blue", "order": "o-7"});
    hold(token.claims == Some(claims), "adminDeriveToken: reserved names are dropped from token.claims")
}

/// Derivations that fail, and operations that reject a token.
pub(crate) async fn reject(client: &Client) -> Outcome {
    let key = key_for(client, ACTOR).await?;
    let wider = DeriveTokenRequest { scopes: Some(vec!["admin".into()]), ..request(&key.secret) };
    client.derive(wider).await.fails_with(403, "FORBIDDEN")?;
    let longer = DeriveTokenRequest { ttl: Some("60d".into()), ..request(&key.secret) };
    client.derive(longer).await.fails_with(400, "BAD_REQUEST")?;
    client.derive(request("sk_live_nobody_knows")).await.fails_with(401, "UNAUTHORIZED")?;

    let token = member(client.derive(request(&key.secret)).await.ok()?.token, "adminDeriveToken: token")?;
    let token = member(token.token, "adminDeriveToken: token.token")?;
    client.derive(request(&token)).await.fails_with(400, "BAD_REQUEST")?;
    let self_revocation = SelfRevokeApiKeyRequest { credential: Some(token), reason: None };
    client.self_revoke(self_revocation).await.fails_with(400, "DERIVED_TOKEN_NOT_REVOCABLE")?;

    client.revoke(&key.id, AdminRevokeApiKeyBody::default()).await.ok()?;
    client.derive(request(&key.secret)).await.fails_with(403, "FORBIDDEN")
}

/// The published keys have no private members.
pub(crate) async fn jwks(client: &Client) -> Outcome {
    let jwks = member(client.jwks().await.ok()?.jwks, "getJwks: jwks")?;
    let keys = member(jwks["keys"].as_array(), "getJwks: jwks.keys")?;
    hold(!keys.is_empty(), "getJwks: there is a key")?;
    hold(keys.iter().all(|key| key["kid"].is_string() && key["kty"].is_string()), "getJwks: kid and kty")?;
    let private = |key: &Value| ["d", "p", "q", "dp", "dq", "qi", "k"].iter().any(|name| !key[name].is_null());
    hold(!keys.iter().any(private), "getJwks: no private member")
}
