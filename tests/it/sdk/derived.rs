//! Derived tokens and the published signing keys.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use ory_client::apis::api_keys_api as api;
use ory_client::apis::configuration::Configuration;
use ory_client::models::{
    AdminRevokeIssuedApiKeyBody, DeriveTokenRequest, Token, TokenAlgorithm, VerificationErrorCode,
};
use serde_json::{Value, json};

use super::{assert_refused, import_request, issue, issue_request, sdk, verify, verify_for};
use crate::support::keygate::Keygate;

const MISMATCH: Option<VerificationErrorCode> = Some(VerificationErrorCode::VerificationErrorAudienceMismatch);
const FORGED: Option<VerificationErrorCode> = Some(VerificationErrorCode::VerificationErrorSignatureInvalid);
const ALGORITHMS: [TokenAlgorithm; 2] = [TokenAlgorithm::TokenAlgorithmJwt, TokenAlgorithm::TokenAlgorithmMacaroon];

fn request(credential: &str) -> DeriveTokenRequest {
    DeriveTokenRequest { credential: Some(credential.into()), ..DeriveTokenRequest::default() }
}

async fn derive(sdk: &Configuration, request: DeriveTokenRequest) -> (Token, String) {
    let token = *api::admin_derive_token(sdk, request).await.unwrap().token.unwrap();
    let text = token.token.clone().unwrap();
    (token, text)
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn seconds(time: Option<&String>) -> i64 {
    DateTime::parse_from_rfc3339(time.unwrap()).unwrap().timestamp()
}

#[tokio::test]
async fn derived_token_has_the_requested_scopes_and_claims() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    for algorithm in ALGORITHMS {
        let body = DeriveTokenRequest {
            algorithm: Some(algorithm),
            scopes: Some(vec!["read".into()]),
            custom_claims: Some(json!({"order": "o-7", "team": "red", "iss": "other issuer"})),
            ..request(&secret)
        };
        let (token, text) = derive(&sdk, body).await;
        assert_eq!(token.scopes, Some(vec!["read".into()]));
        assert_eq!(token.claims, Some(json!({"team": "red", "order": "o-7"})));
        let valid = verify(&sdk, &text).await;
        assert_eq!((valid.is_valid, valid.key_id.as_deref()), (Some(true), Some(id.as_str())), "{algorithm}");
        assert_eq!((valid.actor_id.as_deref(), valid.scopes), (Some("user_1"), Some(vec!["read".into()])));
        assert_eq!(
            valid.metadata,
            Some(json!({"team": "blue", "order": "o-7"})),
            "the parent's metadata take precedence"
        );
        assert_eq!(seconds(valid.expire_time.as_ref()), seconds(token.expire_time.as_ref()));
        assert_eq!(valid.issuer.as_deref(), Some("http://localhost/keygate"));
    }
}

#[tokio::test]
async fn jwt_is_verified_with_the_published_keys() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    let body = DeriveTokenRequest { ttl: Some("10m".into()), ..request(&secret) };
    let (token, text) = derive(&sdk, body).await;
    let (signed, signature) = text.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let (header, claims) = (decode(header), decode(claims));
    assert_eq!((&header["alg"], &header["typ"]), (&json!("EdDSA"), &json!("JWT")));

    let keys = api::get_jwks(&sdk).await.unwrap().jwks.unwrap().keys;
    let key = keys.into_iter().find(|key| header["kid"] == key.kid).unwrap();
    let public = URL_SAFE_NO_PAD.decode(key.x.unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ED25519, public).verify(signed.as_bytes(), &signature).unwrap();

    let expected = json!({"sub": id, "act": "user_1", "scp": ["read", "write"], "vis": "secret",
        "iss": "http://localhost/keygate", "nid": "00000000-0000-0000-0000-000000000000", "meta": {"team": "blue"}});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&claims[name], value, "{name}");
    }
    let (issued, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert_eq!((expires - issued, seconds(token.expire_time.as_ref())), (600, expires));
}

#[tokio::test]
async fn published_keys_have_no_private_members() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let url = format!("{}/v2alpha1/derivedKeys/jwks.json", keygate.admin);
    let body: Value = keygate.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["keys"], body["jwks"]["keys"], "JWK set clients read the top level");
    let keys = body["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    for name in ["d", "p", "q", "dp", "dq", "qi", "k"] {
        assert!(keys.iter().all(|key| key.get(name).is_none()), "{name}");
    }
}

#[tokio::test]
async fn token_is_valid_for_its_audiences_only() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, _, secret) = issue(&sdk, issue_request()).await;
    let audiences = Some(vec!["https://a.example".into(), "https://b.example".into()]);
    for algorithm in ALGORITHMS {
        let body = DeriveTokenRequest { algorithm: Some(algorithm), ..request(&secret) };
        let (_, unrestricted) = derive(&sdk, body.clone()).await;
        let (token, bound) = derive(&sdk, DeriveTokenRequest { audiences: audiences.clone(), ..body }).await;
        assert_eq!(token.audiences, audiences);
        let valid = verify_for(&sdk, &bound, &["https://c.example", "https://b.example"]).await;
        assert_eq!((valid.is_valid, &valid.audiences), (Some(true), &audiences), "{algorithm}");
        for (credential, expected) in [
            (&bound, &[][..]),
            (&bound, &["https://c.example"]),
            (&bound, &["https://a.example/"]),
            (&unrestricted, &["https://a.example"]),
            (&secret, &["https://a.example"]),
        ] {
            let bad = verify_for(&sdk, credential, expected).await;
            assert_eq!((bad.is_valid, bad.error_code), (Some(false), MISMATCH), "{algorithm} {expected:?}");
        }
        assert_eq!(verify(&sdk, &unrestricted).await.is_valid, Some(true));
    }
}

#[tokio::test]
async fn modified_token_is_rejected() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, _, secret) = issue(&sdk, issue_request()).await;
    let (_, jwt) = derive(&sdk, request(&secret)).await;
    let (unsigned, _) = jwt.rsplit_once('.').unwrap();
    assert_eq!(verify(&sdk, &format!("{unsigned}.c2ln")).await.error_code, FORGED);

    let body = DeriveTokenRequest { algorithm: Some(TokenAlgorithm::TokenAlgorithmMacaroon), ..request(&secret) };
    let (_, macaroon) = derive(&sdk, body).await;
    assert!(macaroon.starts_with("mc_v1_"));
    assert_eq!(verify(&sdk, &macaroon[..macaroon.len() - 4]).await.error_code, FORGED);
}

#[tokio::test]
async fn token_cannot_exceed_its_parent() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let (_, id, secret) = issue(&sdk, issue_request()).await;
    let (token, text) = derive(&sdk, request(&secret)).await;
    assert_eq!(token.scopes, Some(vec!["read".into(), "write".into()]), "all scopes unless fewer are requested");
    assert_refused(api::admin_derive_token(&sdk, request(&text)).await, 400, "BAD_REQUEST");

    let wider = DeriveTokenRequest { scopes: Some(vec!["read".into(), "admin".into()]), ..request(&secret) };
    assert_refused(api::admin_derive_token(&sdk, wider).await, 403, "FORBIDDEN");
    let longer = DeriveTokenRequest { ttl: Some("60d".into()), ..request(&secret) };
    assert_refused(api::admin_derive_token(&sdk, longer).await, 400, "BAD_REQUEST");

    api::admin_revoke_issued_api_key(&sdk, &id, AdminRevokeIssuedApiKeyBody::default()).await.unwrap();
    assert_refused(api::admin_derive_token(&sdk, request(&secret)).await, 403, "FORBIDDEN");
    assert_refused(api::admin_derive_token(&sdk, request("sk_live_unknown")).await, 401, "UNAUTHORIZED");
    assert_refused(api::admin_derive_token(&sdk, request("")).await, 400, "BAD_REQUEST");
}

#[tokio::test]
async fn token_can_be_derived_from_an_imported_key() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let sdk = sdk(&keygate);
    let imported = api::admin_import_api_key(&sdk, import_request("sk_live_parent")).await.unwrap();
    let (_, text) = derive(&sdk, request("sk_live_parent")).await;
    let valid = verify(&sdk, &text).await;
    assert_eq!((valid.is_valid, valid.key_id), (Some(true), imported.key_id));
}
