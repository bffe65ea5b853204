//! Credential extraction: the only place where a credential is read from a request. Only the listed locations are looked at.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderName;
use http::header::AUTHORIZATION;

use super::cookie::cookie_values;
use super::credential_locations::{CredentialLocations, FieldLocation};
use super::fields::Fields;
use super::query::parameter_values;
use crate::config::BasicPart;
use crate::credential::CREDENTIAL_MAX;

/// The field for clients that cannot set `Authorization`.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

const BEARER: &[u8] = b"bearer";

/// RFC 7617 does not say whether the encoding is padded.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

/// The credential of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted<'a> {
    /// Its text. Owned only if the request carries it encoded.
    pub text: Cow<'a, str>,
    /// Whether it is only in places from which browsers send it with requests of other sites: a cookie, or `Authorization: Basic`.
    pub is_ambient: bool,
}

/// Extracts the credential from the locations. A repeated credential counts once; schemes compare without regard to case.
///
/// # Errors
/// [`ExtractError::Ambiguous`] for two different credentials, [`ExtractError::Malformed`] for text that cannot be one.
pub fn extract<'a, F: Fields>(
    locations: &'a CredentialLocations,
    fields: &'a F,
    query: Option<&'a str>,
) -> Result<Option<Extracted<'a>>, ExtractError> {
    let mut found = None;
    for location in &locations.fields {
        add_field(&mut found, location, fields)?;
    }
    if !locations.cookies().is_empty() {
        for value in cookie_values(fields, locations.cookies()) {
            add(&mut found, credential(value)?.into(), true)?;
        }
    }
    if !locations.parameters().is_empty()
        && let Some(query) = query
    {
        for value in parameter_values(query, locations.parameters()) {
            add(&mut found, owned_credential(&value)?, false)?;
        }
    }
    Ok(found)
}

/// Whether the request has something in a location, valid or not, or an `Authorization` or `X-API-Key` field of any kind.
pub fn has_credential<F: Fields>(locations: &CredentialLocations, fields: &F, query: Option<&str>) -> bool {
    let has_parameter = |query| parameter_values(query, locations.parameters()).next().is_some();
    fields.has_field(&AUTHORIZATION)
        || fields.has_field(&X_API_KEY)
        || locations.fields.iter().any(|location| fields.has_field(&location.name))
        || cookie_values(fields, locations.cookies()).next().is_some()
        || query.is_some_and(has_parameter)
}

/// Adds the credential in a field. Values with a scheme that is not listed are ignored, but two different values are ambiguous even then.
#[inline]
fn add_field<'a, F: Fields>(
    found: &mut Option<Extracted<'a>>,
    location: &'a FieldLocation,
    fields: &'a F,
) -> Result<(), ExtractError> {
    let mut values = fields.field_values(&location.name).map(<[u8]>::trim_ascii);
    let Some(first) = values.next() else { return Ok(()) };
    let first_read = read(location, first)?;
    for other in values {
        let other_read = read(location, other)?;
        if (first_read.is_none() || other_read.is_none()) && first != other {
            return Err(ExtractError::Ambiguous);
        }
        if let Some((text, is_ambient)) = other_read {
            add(found, text, is_ambient)?;
        }
    }
    match first_read {
        Some((text, is_ambient)) => add(found, text, is_ambient),
        None => Ok(()),
    }
}

/// The credential in a field value, and whether browsers send it on their own. `None` for a scheme that is not listed.
#[inline]
fn read<'a>(location: &FieldLocation, value: &'a [u8]) -> Result<Option<(Cow<'a, str>, bool)>, ExtractError> {
    if location.schemes.is_empty() {
        return Ok(Some((credential(value)?.into(), false)));
    }
    let (scheme, rest) = value.split_at(scheme_length(value));
    let Some(listed) = location.schemes.iter().find(|listed| listed.is(scheme)) else {
        return Ok(None);
    };
    match listed.basic {
        None => Ok(Some((credential(rest)?.into(), false))),
        Some(part) => Ok(Some((basic(rest, part)?, true))),
    }
}

/// The length of what is before the first white space.
#[inline]
fn scheme_length(value: &[u8]) -> usize {
    // The scheme of most credentials, found without looking at each byte.
    if value.get(BEARER.len()).is_some_and(u8::is_ascii_whitespace)
        && value[..BEARER.len()].eq_ignore_ascii_case(BEARER)
    {
        return BEARER.len();
    }
    value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len())
}

/// A part of the user name and password of RFC 7617.
fn basic(encoded: &[u8], part: BasicPart) -> Result<Cow<'static, str>, ExtractError> {
    let pair = BASE64.decode(encoded.trim_ascii()).map_err(|_| ExtractError::Malformed)?;
    let colon = pair.iter().position(|byte| *byte == b':').ok_or(ExtractError::Malformed)?;
    owned_credential(match part {
        BasicPart::Username => &pair[..colon],
        BasicPart::Password => &pair[colon + 1..],
    })
}

#[inline]
fn add<'a>(found: &mut Option<Extracted<'a>>, text: Cow<'a, str>, is_ambient: bool) -> Result<(), ExtractError> {
    match found {
        Some(other) if other.text != text => return Err(ExtractError::Ambiguous),
        Some(other) => other.is_ambient &= is_ambient,
        None => *found = Some(Extracted { text, is_ambient }),
    }
    Ok(())
}

fn owned_credential(text: &[u8]) -> Result<Cow<'static, str>, ExtractError> {
    credential(text).map(|text| Cow::Owned(text.to_owned()))
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
    use crate::config::CredentialLocation;
    use crate::wire::fields::FieldList;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()))
            .collect()
    }

    fn check(given: &[(&'static str, &str)], expected: Result<Option<&str>, ExtractError>) {
        let pairs: Vec<_> = given.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let fields = headers(&pairs);
        let extracted = extract(CredentialLocations::standard(), &fields, Some("x-api-key=q&token=q"));
        if let Ok(Some(extracted)) = &extracted {
            assert!(matches!(extracted.text, Cow::Borrowed(_)) && !extracted.is_ambient);
        }
        assert_eq!(
            extracted.as_ref().map(|found| found.as_ref().map(|found| &*found.text)),
            expected.as_ref().map(|found| *found),
            "{given:?}"
        );
    }

    fn locations(text: &str) -> CredentialLocations {
        let locations: Vec<CredentialLocation> = serde_saphyr::from_str(text).unwrap();
        CredentialLocations::new(&locations)
    }

    /// The credential of a request with these fields, one a line, and this query; with `~` in front if it is ambient.
    fn extracted(locations: &CredentialLocations, fields: &str, query: &str) -> Result<Option<String>, ExtractError> {
        let pairs: Vec<_> = fields.lines().filter_map(|line| line.split_once(": ")).collect();
        let list: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let list = FieldList(&list);
        let found = extract(locations, &list, Some(query))?;
        Ok(found.map(|found| format!("{}{}", if found.is_ambient { "~" } else { "" }, found.text)))
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
        let fields = headers(&[("x-api-key", b"\xff\xfe")]);
        assert_eq!(extract(CredentialLocations::standard(), &fields, None), Err(Malformed));
    }

    #[test]
    fn only_listed_locations_are_looked_at() {
        let everywhere = "authorization: Bearer k\nx-api-key: k\ncookie: token=k\napikey: k";
        for (list, expected) in [
            ("[{header: other}]", None),
            ("[{header: apikey}]", Some("k")),
            ("[{cookie: token}]", Some("~k")),
            ("[{query: apikey}]", Some("k")),
            ("[{cookie: other}, {query: other}, {basic: password}]", None),
            ("[{bearer: true}, {header: X-API-Key}, {cookie: token}, {query: apikey}, {header: ApiKey}]", Some("k")),
        ] {
            let found = extracted(&locations(list), everywhere, "apikey=k").unwrap();
            assert_eq!(found.as_deref(), expected, "{list}");
        }
    }

    #[test]
    fn credential_is_extracted_from_every_kind_of_location() {
        let list = "[{bearer: true}, {basic: password}, {header: Authorization, scheme: ApiKey}, {cookie: token}, {query: apikey}]";
        let locations = locations(list);
        for (fields, query, expected) in [
            ("", "", Ok(None)),
            ("authorization: apikey  k", "", Ok(Some("k"))),
            ("authorization: Digest k", "", Ok(None)),
            ("authorization: Basic dTpr", "", Ok(Some("~k"))),
            ("authorization: basic dTprOmw", "", Ok(Some("~k:l"))),
            ("authorization: Basic dTprOmw=", "", Ok(Some("~k:l"))),
            ("authorization: Basic dTpr\ncookie: token=k", "apikey=k", Ok(Some("k"))),
            ("authorization: Basic dTpr\ncookie: token=k", "", Ok(Some("~k"))),
            ("authorization: Basic dTpr\nauthorization: Bearer k", "", Ok(Some("k"))),
            ("authorization: Basic dTpr\nauthorization: Digest k", "", Err(Ambiguous)),
            ("authorization: Basic dTpr\nauthorization: Bearer l", "", Err(Ambiguous)),
            ("authorization: Bearer k\ncookie: token=l", "", Err(Ambiguous)),
            ("authorization: Bearer k", "apikey=l", Err(Ambiguous)),
            ("cookie: token=k; token=l", "", Err(Ambiguous)),
            ("", "apikey=k&%61pikey=l", Err(Ambiguous)),
            ("", "apikey=k&apikey=%6b", Ok(Some("k"))),
            ("authorization: Basic", "", Err(Malformed)),
            ("authorization: Basic !", "", Err(Malformed)),
            ("authorization: Basic dQ==", "", Err(Malformed)),
            ("authorization: Basic dTo=", "", Err(Malformed)),
            ("authorization: Basic dTphIGI=", "", Err(Malformed)),
            ("authorization: Basic dTr/", "", Err(Malformed)),
            ("cookie: token=", "", Err(Malformed)),
            ("cookie: a=1; token=a b", "", Err(Malformed)),
            ("", "apikey", Err(Malformed)),
            ("", "apikey=a%20b", Err(Malformed)),
            ("", "apikey=%ff", Err(Malformed)),
        ] {
            let found = extracted(&locations, fields, query);
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().map(|found| *found), "{fields} {query}");
        }
        let user = super::tests::locations("[{basic: username}]");
        assert_eq!(extracted(&user, "authorization: Basic azo=", ""), Ok(Some("~k".into())));
    }

    #[test]
    fn credential_in_any_location_is_noticed() {
        let locations = locations("[{cookie: token}, {query: apikey}, {header: apikey}]");
        for (fields, query, expected) in [
            ("", "", false),
            ("cookie: a=1", "b=2", false),
            ("cookie: token=", "", true),
            ("", "%61pikey", true),
            ("apikey: ", "", true),
            ("authorization: Digest x", "", true),
            ("x-api-key: x", "", true),
        ] {
            let pairs: Vec<_> = fields.lines().filter_map(|line| line.split_once(": ")).collect();
            let list: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            assert_eq!(has_credential(&locations, &FieldList(&list), Some(query)), expected, "{fields} {query}");
        }
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
            if let Ok(Some(Extracted { text: credential, .. })) = extract(CredentialLocations::standard(), &map, None) {
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
