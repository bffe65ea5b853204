//! Where a request carries its credential. Query strings are never looked at: they end up in logs.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::credential::CREDENTIAL_MAX;
use crate::verifier::Denial;

/// The header for clients that cannot set `Authorization`.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The request's credential: `Authorization: Bearer`, scheme in any case, or `X-API-Key`. The same one twice is one.
///
/// # Errors
/// [`Denial::CredentialAmbiguous`] for two different ones, [`Denial::CredentialMalformed`] for what cannot be one.
pub fn extract(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(bearer);
    let keys = headers.get_all(X_API_KEY).iter().map(HeaderValue::as_bytes);
    let mut found = None;
    for text in bearers.chain(keys) {
        let credential = read(text)?;
        match found {
            None => found = Some(credential),
            Some(first) if first == credential => {}
            Some(_) => return Err(Denial::CredentialAmbiguous),
        }
    }
    Ok(found)
}

/// What follows the scheme, if the scheme is Bearer. Other schemes are not ours to judge.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let value = value.as_bytes().trim_ascii();
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let ends_here = rest.first().is_none_or(|byte| *byte == b' ' || *byte == b'\t');
    (scheme.eq_ignore_ascii_case(SCHEME) && ends_here).then_some(rest)
}

fn read(text: &[u8]) -> Result<&str, Denial> {
    let text = text.trim_ascii();
    let fits = (1..=CREDENTIAL_MAX).contains(&text.len());
    // Blanks end a credential; whoever put one inside meant two, or a phrase.
    let whole = !text.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
    std::str::from_utf8(text).ok().filter(|_| fits && whole).ok_or(Denial::CredentialMalformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect()
    }

    #[test]
    fn the_credential_is_found_in_either_place() {
        let long = "x".repeat(CREDENTIAL_MAX);
        let cases: [(&[(&str, &str)], _); 16] = [
            (&[], Ok(None)),
            (&[("authorization", "Bearer k")], Ok(Some("k"))),
            (&[("authorization", "bEARER   k ")], Ok(Some("k"))),
            (&[("x-api-key", " k ")], Ok(Some("k"))),
            (&[("authorization", "Bearer k"), ("x-api-key", "k")], Ok(Some("k"))),
            (&[("authorization", "Bearer k"), ("x-api-key", "l")], Err(Denial::CredentialAmbiguous)),
            (&[("authorization", "Bearer k"), ("authorization", "Bearer l")], Err(Denial::CredentialAmbiguous)),
            (&[("x-api-key", "k"), ("x-api-key", "l")], Err(Denial::CredentialAmbiguous)),
            (&[("authorization", "Basic a2V5")], Ok(None)),
            (&[("authorization", "Basic a2V5"), ("x-api-key", "k")], Ok(Some("k"))),
            (&[("authorization", "Bearerk")], Ok(None)),
            (&[("authorization", "Bearer")], Err(Denial::CredentialMalformed)),
            (&[("authorization", "Bearer a b")], Err(Denial::CredentialMalformed)),
            (&[("x-api-key", "")], Err(Denial::CredentialMalformed)),
            (&[("x-api-key", &long)], Ok(Some(&long))),
            (&[("x-api-key", &format!("{long}x"))], Err(Denial::CredentialMalformed)),
        ];
        for (given, expected) in cases {
            assert_eq!(extract(&headers(given)), expected, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(bytes in proptest::collection::vec(32u8..=255, 0..80)) {
            let mut map = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                map.insert(AUTHORIZATION, value.clone());
                map.insert(X_API_KEY, value);
            }
            let _ = extract(&map);
        }
    }
}
