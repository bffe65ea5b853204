//! Derived tokens at the gateway, and verified and restricted by other libraries.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use biscuit::jwa::SignatureAlgorithm;
use biscuit::jwk::JWKSet;
use biscuit::{Empty, JWT, ValidationOptions};
use hmac::{Hmac, KeyInit, Mac};
use jwt_compact::alg::Ed25519;
use jwt_compact::jwk::JsonWebKey;
use jwt_compact::{AlgorithmExt, TimeOptions, UntrustedToken};
use libmacaroon::{Format, Macaroon, MacaroonKey, Verifier};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::keygate::{HMAC_SECRET, Keygate, command};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const ISSUER: &str = "https://keys.example.com";
const JWT: &str = "TOKEN_ALGORITHM_JWT";
const MACAROON: &str = "TOKEN_ALGORITHM_MACAROON";

/// A gateway whose signing key comes from `keygate jwk generate` with these arguments.
fn start(upstream: &Upstream, key: &[&str], revoke_with_parent: bool) -> Keygate {
    let generated = command().args(["jwk", "generate"]).args(key).args(["--kid", "signer", "--jwks"]).output().unwrap();
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let routes = json!([
        {"name": "orders", "path_prefix": "/orders", "upstream": "api", "scopes": ["read:orders"]},
        {"name": "plain", "path_prefix": "/plain", "upstream": "api"},
        {"name": "bound", "path_prefix": "/bound", "upstream": "api", "audiences": ["https://a.example"]}
    ]);
    let source = format!("base64://{}", URL_SAFE_NO_PAD.encode(generated.stdout));
    let derived = json!({"jwt": {"signing_keys": {"urls": [source]}}, "revoke_with_parent": revoke_with_parent});
    Keygate::serve(
        &json!({"routes": routes, "upstreams": {"api": {"endpoints": [upstream.url]}}}),
        &json!({"credentials": {"derived_tokens": derived}}),
    )
}

async fn derive(keygate: &Keygate, credential: &str, algorithm: &str, more: Value) -> String {
    let mut body = json!({"credential": credential, "algorithm": algorithm});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let response = keygate.post("apiKeys:derive", &body).await;
    let status = response.status();
    let response: Value = response.json().await.unwrap();
    assert_eq!(status, 200, "{response}");
    response["token"]["token"].as_str().unwrap().to_owned()
}

/// Status and problem code of the gateway's response.
async fn outcome(keygate: &Keygate, path: &str, credential: &str) -> (u16, String) {
    let response = keygate.call(path, credential).await;
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

async fn assert_outcomes(keygate: &Keygate, credential: &str, expected: &[(&str, u16, &str)]) {
    for (path, status, code) in expected {
        assert_eq!(outcome(keygate, path, credential).await, (*status, (*code).to_owned()), "{path} {credential}");
    }
}

async fn verification(keygate: &Keygate, credential: &str) -> Value {
    keygate.post("apiKeys:verify", &json!({"credential": credential})).await.json().await.unwrap()
}

async fn key_set(keygate: &Keygate) -> String {
    let url = format!("{}/v2alpha1/derivedKeys/jwks.json", keygate.admin);
    keygate.http.get(url).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn gateway_applies_the_scopes_addresses_and_audiences_of_derived_tokens() {
    let upstream = Upstream::start();
    let keygate = start(&upstream, &["eddsa"], true);
    let rule = json!({"allowed_cidrs": ["127.0.0.0/8"]});
    let (id, key) = keygate.issue(json!({"scopes": ["read:orders", "write:orders"], "ip_restriction": rule})).await;
    for algorithm in [JWT, MACAROON] {
        let whole = derive(&keygate, &key, algorithm, json!({})).await;
        assert_outcomes(
            &keygate,
            &whole,
            &[("/orders", 200, ""), ("/plain", 200, ""), ("/bound", 401, "audience_mismatch")],
        )
        .await;
        let narrower = derive(&keygate, &key, algorithm, json!({"scopes": ["write:orders"]})).await;
        assert_outcomes(&keygate, &narrower, &[("/orders", 403, "scope_insufficient"), ("/plain", 200, "")]).await;
        let bound = derive(&keygate, &key, algorithm, json!({"audiences": ["https://a.example"]})).await;
        assert_outcomes(&keygate, &bound, &[("/bound", 200, ""), ("/plain", 401, "audience_mismatch")]).await;
        let elsewhere = derive(&keygate, &key, algorithm, json!({"audiences": ["https://b.example"]})).await;
        assert_outcomes(&keygate, &elsewhere, &[("/bound", 401, "audience_mismatch")]).await;
        let short = derive(&keygate, &key, algorithm, json!({"ttl": "1s"})).await;
        let expired = wait_for(async || match outcome(&keygate, "/plain", &short).await {
            (200, _) => Err("the token has not expired".to_owned()),
            outcome => Ok(outcome),
        })
        .await;
        assert_eq!(expired, (401, "credential_invalid".to_owned()));
    }
    let head = upstream.heads().pop().unwrap();
    assert!(head.contains(&id), "the upstream receives the id of the parent: {head}");
    assert_outcomes(&keygate, &key, &[("/bound", 401, "audience_mismatch"), ("/plain", 200, "")]).await;
    // A token contains the address rule of its parent at derivation. A later change of that rule does not affect it.
    let change = json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}});
    let token = derive(&keygate, &key, MACAROON, json!({})).await;
    let url = format!("{}/v2alpha1/admin/issuedApiKeys/{id}?update_mask=ip_restriction", keygate.admin);
    assert_eq!(keygate.http.patch(url).body(change.to_string()).send().await.unwrap().status(), 200);
    assert_outcomes(&keygate, &key, &[("/plain", 403, "address_not_allowed")]).await;
    assert_outcomes(&keygate, &token, &[("/plain", 200, "")]).await;
}

#[tokio::test]
async fn tokens_of_a_revoked_parent_are_rejected_by_the_gateway_but_not_by_verify() {
    let upstream = Upstream::start();
    let mut keygate = start(&upstream, &["eddsa"], true);
    let (id, key) = keygate.issue(json!({})).await;
    let import = json!({"raw_key": "sk_live_parent", "name": "parent", "actor_id": "user_1"});
    let imported: Value = keygate.post("importedApiKeys", &import).await.json().await.unwrap();
    let (_, other) = keygate.issue(json!({})).await;
    let mut revoked = Vec::new();
    for algorithm in [JWT, MACAROON] {
        revoked.push(derive(&keygate, &key, algorithm, json!({})).await);
        revoked.push(derive(&keygate, "sk_live_parent", algorithm, json!({})).await);
    }
    let alive = derive(&keygate, &other, JWT, json!({})).await;
    for token in revoked.iter().chain([&alive]) {
        assert_outcomes(&keygate, token, &[("/plain", 200, "")]).await;
    }
    keygate.revoke(&id).await;
    let url = format!("{}/v2alpha1/admin/importedApiKeys/{}", keygate.admin, imported["key_id"].as_str().unwrap());
    assert!(keygate.http.delete(url).send().await.unwrap().status().is_success());
    for restarted in [false, true] {
        for token in &revoked {
            assert_outcomes(&keygate, token, &[("/plain", 401, "credential_revoked")]).await;
            assert_eq!(verification(&keygate, token).await["is_valid"], true, "restarted: {restarted}");
        }
        assert_outcomes(&keygate, &alive, &[("/plain", 200, "")]).await;
        if !restarted {
            keygate.restart();
        }
    }
}

#[tokio::test]
async fn tokens_of_a_revoked_parent_stay_valid_if_configured() {
    let upstream = Upstream::start();
    let keygate = start(&upstream, &["eddsa"], false);
    let (id, key) = keygate.issue(json!({})).await;
    let token = derive(&keygate, &key, JWT, json!({})).await;
    keygate.revoke(&id).await;
    assert_outcomes(&keygate, &key, &[("/plain", 401, "credential_revoked")]).await;
    assert_outcomes(&keygate, &token, &[("/plain", 200, "")]).await;
}

#[tokio::test]
async fn jwt_compact_verifies_an_ed25519_jwt_with_the_published_keys() {
    let upstream = Upstream::start();
    let keygate = start(&upstream, &["eddsa"], true);
    let (id, key) = keygate.issue(json!({"scopes": ["read:orders"]})).await;
    let text = derive(&keygate, &key, JWT, json!({"custom_claims": {"order": "o-7"}})).await;
    let set: Value = serde_json::from_str(&key_set(&keygate).await).unwrap();
    let published: JsonWebKey<'_> = serde_json::from_value(set["keys"][0].clone()).unwrap();
    let public = (&published).try_into().unwrap();
    let token = UntrustedToken::new(&text).unwrap();
    assert_eq!(token.header().key_id.as_deref(), Some("signer"));
    let token = Ed25519.validator::<Value>(&public).validate(&token).unwrap();
    token.claims().validate_expiration(&TimeOptions::default()).unwrap();
    let claims = &token.claims().custom;
    assert_eq!((&claims["iss"], &claims["sub"], &claims["order"]), (&json!(ISSUER), &json!(id), &json!("o-7")));
    let (payload, _) = text.rsplit_once('.').unwrap();
    let forged = format!("{payload}.{}", URL_SAFE_NO_PAD.encode([1; 64]));
    assert!(Ed25519.validator::<Value>(&public).validate(&UntrustedToken::new(&forged).unwrap()).is_err());
}

#[tokio::test]
async fn biscuit_verifies_an_rsa_jwt_with_the_published_keys() {
    let upstream = Upstream::start();
    let keygate = start(&upstream, &["rsa"], true);
    let (id, key) = keygate.issue(json!({})).await;
    let text = derive(&keygate, &key, JWT, json!({})).await;
    let set: JWKSet<Empty> = serde_json::from_str(&key_set(&keygate).await).unwrap();
    let token = JWT::<Value, Empty>::new_encoded(&text);
    let token = token.decode_with_jwks(&set, Some(SignatureAlgorithm::RS256)).unwrap();
    token.validate(ValidationOptions::default()).unwrap();
    let claims = &token.payload().unwrap().registered;
    assert_eq!((claims.issuer.as_deref(), claims.subject.as_deref()), (Some(ISSUER), Some(id.as_str())));
    assert_outcomes(&keygate, &text, &[("/plain", 200, "")]).await;
}

/// The root key with which other libraries verify macaroons.
fn root_key() -> MacaroonKey {
    let mac = Hmac::<Sha256>::new_from_slice(HMAC_SECRET.as_bytes()).unwrap();
    MacaroonKey::generate(&mac.chain_update(b"talos/macaroon/v1/root-key").finalize().into_bytes())
}

fn restrict(macaroon: &Macaroon, caveat: &Value) -> String {
    let mut restricted = macaroon.clone();
    restricted.add_first_party_caveat(caveat.to_string()).unwrap();
    let mut verifier = Verifier::default();
    verifier.satisfy_general(|_| true);
    verifier.verify(&restricted, &root_key(), &[]).unwrap();
    written(&restricted)
}

fn written(macaroon: &Macaroon) -> String {
    format!("mc_v1_{}", macaroon.serialize(Format::V2).unwrap().trim_end_matches('='))
}

#[tokio::test]
async fn caveats_added_by_libmacaroon_are_enforced() {
    let upstream = Upstream::start();
    let keygate = start(&upstream, &["eddsa"], true);
    let (id, key) = keygate.issue(json!({"scopes": ["read:orders", "write:orders"]})).await;
    let text = derive(&keygate, &key, MACAROON, json!({})).await;
    let macaroon = Macaroon::deserialize(text.trim_start_matches("mc_v1_")).unwrap();
    assert_eq!((macaroon.location(), written(&macaroon)), (Some(ISSUER), text));
    let claims: Value = serde_json::from_slice(macaroon.caveats()[0].as_first_party().unwrap().predicate()).unwrap();
    assert_eq!((&claims["sub"], &claims["iss"]), (&json!(id), &json!(ISSUER)));

    let now = claims["nbf"].as_i64().unwrap();
    for (caveat, expected) in [
        (json!({"iss": ISSUER, "scp": ["write:orders", "admin"]}), [(403, "scope_insufficient"), (200, "")]),
        (json!({"iss": ISSUER, "acl": ["192.0.2.0/24"]}), [(403, "address_not_allowed"); 2]),
        (json!({"iss": ISSUER, "acl": ["127.0.0.1/32"]}), [(200, ""); 2]),
        (json!({"iss": ISSUER, "exp": now - 1}), [(401, "credential_invalid"); 2]),
        (json!({"iss": ISSUER, "nbf": now + 3600}), [(401, "credential_invalid"); 2]),
        (json!({"iss": ISSUER, "aud": ["https://a.example"]}), [(401, "audience_mismatch"); 2]),
        (json!({"scp": ["read:orders"]}), [(401, "credential_invalid"); 2]),
        (json!({"iss": ISSUER, "exp": now + 3600}), [(200, ""); 2]),
    ] {
        let restricted = restrict(&macaroon, &caveat);
        let [orders, plain] = expected;
        assert_outcomes(&keygate, &restricted, &[("/orders", orders.0, orders.1), ("/plain", plain.0, plain.1)]).await;
    }
    let restricted = restrict(&macaroon, &json!({"iss": ISSUER, "exp": now + 60, "scp": ["read:orders"]}));
    let verified = verification(&keygate, &restricted).await;
    assert_eq!((&verified["is_valid"], &verified["scopes"]), (&json!(true), &json!(["read:orders"])));
    assert_eq!(verified["expire_time"], json!(chrono::DateTime::from_timestamp(now + 60, 0)));
}

#[tokio::test]
async fn macaroon_with_a_third_party_caveat_or_a_removed_caveat_is_rejected() {
    let upstream = Upstream::start();
    let keygate = start(&upstream, &["eddsa"], true);
    let (_, key) = keygate.issue(json!({})).await;
    let text = derive(&keygate, &key, MACAROON, json!({})).await;
    let macaroon = Macaroon::deserialize(text.trim_start_matches("mc_v1_")).unwrap();
    let mut third = macaroon.clone();
    third.add_third_party_caveat("https://other.example", &MacaroonKey::generate(b"theirs"), "who").unwrap();
    let bare = Macaroon::create(Some(ISSUER), &root_key(), macaroon.identifier()).unwrap();
    let mut forged = Macaroon::create(Some(ISSUER), &MacaroonKey::generate(b"guess"), macaroon.identifier()).unwrap();
    forged.add_first_party_caveat(macaroon.caveats()[0].as_first_party().unwrap().predicate()).unwrap();
    for refused in [third, bare, forged] {
        assert_outcomes(&keygate, &written(&refused), &[("/plain", 401, "credential_invalid")]).await;
        assert_eq!(
            verification(&keygate, &written(&refused)).await["error_code"],
            "VERIFICATION_ERROR_SIGNATURE_INVALID"
        );
    }
}

#[tokio::test]
async fn caveat_that_keygate_does_not_apply_rejects_the_macaroon_unless_configured() {
    let upstream = Upstream::start();
    for (unknown_caveats, outcome) in [
        (Value::Null, (401, "credential_invalid")),
        (json!("deny"), (401, "credential_invalid")),
        (json!("ignore"), (200, "")),
    ] {
        let keygate = Keygate::serve(
            &json!({"routes": [{"name": "plain", "upstream": "api"}], "upstreams": {"api": {"endpoints": [upstream.url]}}}),
            &match unknown_caveats {
                Value::Null => json!({}),
                _ => json!({"credentials": {"derived_tokens": {"macaroon": {"unknown_caveats": unknown_caveats}}}}),
            },
        );
        let (_, key) = keygate.issue(json!({})).await;
        let text = derive(&keygate, &key, MACAROON, json!({})).await;
        let macaroon = Macaroon::deserialize(text.trim_start_matches("mc_v1_")).unwrap();
        let restricted = restrict(&macaroon, &json!({"iss": ISSUER, "method": "GET"}));
        assert_outcomes(&keygate, &text, &[("/", 200, "")]).await;
        assert_outcomes(&keygate, &restricted, &[("/", outcome.0, outcome.1)]).await;
        assert_eq!(verification(&keygate, &restricted).await["is_valid"], outcome.0 == 200);
        let mut duplicate = macaroon.clone();
        duplicate.add_first_party_caveat(format!(r#"{{"iss":"{ISSUER}","scp":[],"scp":["a"]}}"#)).unwrap();
        assert_outcomes(&keygate, &written(&duplicate), &[("/", 401, "credential_invalid")]).await;
    }
}
