//! Derived tokens as JWTs: signing and verification (RFC 7515, RFC 7519; contract, credentials section 6).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::claims::Claims;
use super::jwk::{SigningKey, SigningKeys};

/// The JOSE header parameters that are evaluated; others are ignored.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// Signs claims; `None` if the key cannot sign.
pub(super) fn sign(claims: &Claims, key: &SigningKey) -> Option<String> {
    let (alg, kid) = (json!(key.algorithm_name()?), json!(key.kid()));
    let header = format!(r#"{{"alg":{alg},"kid":{kid},"typ":"JWT"}}"#);
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(claims.to_json()));
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&signature);
    Some(token)
}

/// Verifies the signature and returns the claims. The algorithm is that of the key; the header must name the same one. Times
/// and issuer are not checked.
pub(super) fn verify(token: &str, keys: &SigningKeys) -> Option<Claims> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    // Critical header parameters must be understood (RFC 7515 section 4.1.11). None are supported.
    let valid = header.crit.is_none() && keys.verifies(&header.kid, &header.alg, message.as_bytes(), signature);
    if valid { Claims::parse(&URL_SAFE_NO_PAD.decode(payload).ok()?) } else { None }
}
