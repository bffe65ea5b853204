//! Derived tokens as JWTs (RFC 7515, RFC 7519; contract, credentials section 6).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::claims::Claims;
use super::jwk::{SigningKey, SigningKeys};

/// What of a header decides; everything else in it is ignored.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// The claims, signed by `key`; `None` when the key cannot sign.
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

/// The claims of a token that one of `keys` signed, by the algorithm that is the key's own. Their values are not judged.
pub(super) fn open(token: &str, keys: &SigningKeys) -> Option<Claims> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    // What is marked critical must be understood (RFC 7515 section 4.1.11), and nothing is.
    let genuine = header.crit.is_none() && keys.verifies(&header.kid, &header.alg, message.as_bytes(), signature);
    if genuine { Claims::parse(&URL_SAFE_NO_PAD.decode(payload).ok()?) } else { None }
}
