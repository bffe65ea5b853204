//! Credential extraction from request fields. Query strings are never read: they end up in logs.

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::fields::Fields;
use crate::credential::CREDENTIAL_MAX;

/// The field for clients that cannot set `Authorization`.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Why no credential can be extracted. Never contains what the request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// The request carries two different credentials; another server might pick the other one.
    #[error("the request carries two different credentials")]
    Ambiguous,
    /// The text cannot be a credential: empty, too long, or with characters that no credential has.
    #[error("what the request carries cannot be a credential")]
    Malformed,
}

/// The content of an `Authorization` field.
#[derive(PartialEq, Eq)]
enum Authorization<'a> {
    Bearer(&'a str),
    /// Another scheme, which Keygate ignores.
    Foreign(&'a [u8]),
}

/// Extracts the credential from `Authorization: Bearer` (scheme in any case) or `X-API-Key`. A repeated credential counts once.
///
/// # Errors
/// [`ExtractError::Ambiguous`] for two different credentials, [`ExtractError::Malformed`] for text that cannot be one.
pub fn extract<F: Fields>(fields: &F) -> Result<Option<&str>, ExtractError> {
    let authorizations = fields.field_values(&AUTHORIZATION).map(authorization);
    let authorization = single(authorizations)?;
    let api_key = single(fields.field_values(&X_API_KEY).map(credential))?;
    match (authorization, api_key) {
        (Some(Authorization::Bearer(token)), Some(key)) if token != key => Err(ExtractError::Ambiguous),
        (Some(Authorization::Bearer(credential)), _) | (_, Some(credential)) => Ok(Some(credential)),
        (Some(Authorization::Foreign(_)) | None, None) => Ok(None),
    }
}

/// Whether the request has a field that carries a credential, valid or not, of any scheme.
pub fn has_credential<F: Fields>(fields: &F) -> bool {
    fields.has_field(&AUTHORIZATION) || fields.has_field(&X_API_KEY)
}

/// The only distinct value.
fn single<T: PartialEq>(values: impl Iterator<Item = Result<T, ExtractError>>) -> Result<Option<T>, ExtractError> {
    let mut found = None;
    for value in values {
        let value = value?;
        if found.as_ref().is_some_and(|found| *found != value) {
            return Err(ExtractError::Ambiguous);
        }
        found = Some(value);
    }
    Ok(found)
}

fn authorization(value: &[u8]) -> Result<Authorization<'_>, ExtractError> {
    let value = value.trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if scheme.eq_ignore_ascii_case(b"bearer") {
        credential(rest).map(Authorization::Bearer)
    } else {
        Ok(Authorization::Foreign(value))
    }
}

fn credential(text: &[u8]) -> Result<&str, ExtractError> {
    let text = text.trim_ascii();
    if !(1..=CREDENTIAL_MAX).contains(&text.len()) {
        return Err(ExtractError::Malformed);
    }
    // Most credentials are visible ASCII. The fold has no early exit, so that the compiler can vectorize it.
    let plain = text.iter().fold(true, |plain, byte| plain & byte.is_ascii_graphic());
    let text = std::str::from_utf8(text).map_err(|_| ExtractError::Malformed)?;
    // White space inside means two credentials, or a phrase.
    let is_single = || !text.chars().any(|character| character.is_whitespace() || character.is_control());
    if plain || is_single() { Ok(text) } else { Err(ExtractError::Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use http::{HeaderMap, HeaderValue};

    use super::ExtractError::{Ambiguous, Malformed};
    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()))
            .collect()
    }

    fn check(given: &[(&'static str, &str)], expected: Result<Option<&str>, ExtractError>) {
        let pairs: Vec<_> = given.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        assert_eq!(extract(&headers(&pairs)), expected, "{given:?}");
    }

    #[test]
    fn credential_is_extracted_from_both_fields() {
        check(&[], Ok(None));
        check(&[("authorization", "Bearer k")], Ok(Some("k")));
        check(&[("authorization", "bEARER \t  k ")], Ok(Some("k")));
        check(&[("x-api-key", " k\t")], Ok(Some("k")));
        check(&[("x-api-key", "clé")], Ok(Some("clé")));
        check(&[("authorization", "Bearer k"), ("x-api-key", "k")], Ok(Some("k")));
        check(&[("authorization", "Bearer k"), ("authorization", "bearer  k")], Ok(Some("k")));
        check(&[("x-api-key", "k"), ("x-api-key", " k")], Ok(Some("k")));
    }

    #[test]
    fn other_authorization_schemes_are_ignored() {
        check(&[("authorization", "Basic a2V5")], Ok(None));
        check(&[("authorization", "Bearerk")], Ok(None));
        check(&[("authorization", "")], Ok(None));
        check(&[("authorization", "Basic a2V5"), ("authorization", "Basic a2V5")], Ok(None));
        check(&[("authorization", "Basic a2V5"), ("x-api-key", "k")], Ok(Some("k")));
    }

    #[test]
    fn two_different_credentials_are_ambiguous() {
        check(&[("authorization", "Bearer k"), ("x-api-key", "l")], Err(Ambiguous));
        check(&[("authorization", "Bearer k"), ("authorization", "Bearer l")], Err(Ambiguous));
        check(&[("authorization", "Bearer k"), ("authorization", "Basic a2V5")], Err(Ambiguous));
        check(&[("authorization", "Basic a2V5"), ("authorization", "Basic a2V6")], Err(Ambiguous));
        check(&[("x-api-key", "k"), ("x-api-key", "K")], Err(Ambiguous));
        check(&[("x-api-key", "k"), ("x-api-key", "k"), ("x-api-key", "l")], Err(Ambiguous));
    }

    #[test]
    fn malformed_credentials_are_rejected() {
        let longest = "x".repeat(CREDENTIAL_MAX);
        check(&[("x-api-key", &longest)], Ok(Some(&longest)));
        for text in ["", "  ", "a b", "a, b", "a\tb", "a\u{a0}b", "a\u{85}b", &format!("{longest}x")] {
            check(&[("x-api-key", text)], Err(Malformed));
            check(&[("authorization", &format!("Bearer {text}"))], Err(Malformed));
        }
        check(&[("authorization", "Bearer")], Err(Malformed));
        check(&[("authorization", "Bearer k"), ("x-api-key", "")], Err(Malformed));
        assert_eq!(extract(&headers(&[("x-api-key", b"\xff\xfe")])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn extract_never_panics(
            values in proptest::collection::vec((any::<bool>(), proptest::collection::vec(32u8..=255, 0..40)), 0..4),
        ) {
            let mut map = HeaderMap::new();
            for (bearer, mut bytes) in values {
                let name = if bearer { AUTHORIZATION } else { X_API_KEY };
                if bearer {
                    bytes.splice(0..0, *b"Bearer ");
                }
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    map.append(name, value);
                }
            }
            if let Ok(Some(credential)) = extract(&map) {
                prop_assert!(!credential.is_empty() && credential.len() <= CREDENTIAL_MAX);
                prop_assert!(!credential.chars().any(|c| c.is_whitespace() || c.is_control()));
            }
        }

        #[test]
        fn credential_is_returned_unchanged(
            credential in "[!-~]{1,60}",
            scheme in "[bB][eE][aA][rR][eE][rR]",
            blanks in " {1,3}",
        ) {
            let bearer = [scheme.as_str(), &blanks, &credential].concat();
            check(&[("authorization", &bearer)], Ok(Some(&credential)));
            check(&[("x-api-key", &credential)], Ok(Some(&credential)));
            check(&[("authorization", &bearer), ("x-api-key", &credential)], Ok(Some(&credential)));
        }

        #[test]
        fn different_credentials_are_never_accepted(one in "[!-~]{1,20}", other in "[!-~]{1,20}") {
            prop_assume!(one != other);
            check(&[("authorization", &["Bearer ", &one].concat()), ("x-api-key", &other)], Err(Ambiguous));
        }
    }
}
