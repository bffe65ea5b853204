//! Where the requests of a route carry their credential, and what a rejection says about it.

use std::sync::LazyLock;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use crate::config::{BasicPart, CredentialLocation};

/// The standard locations.
static STANDARD: LazyLock<CredentialLocations> =
    LazyLock::new(|| CredentialLocations::new(&CredentialLocation::standard()));
/// The fields that the standard locations are in. They are removed from forwarded requests whether they are listed or not.
const STANDARD_FIELDS: [&str; 2] = ["authorization", "x-api-key"];
const BEARER: &str = "Bearer";
const REALM: &str = r#"realm="keygate""#;

/// The places where credentials are looked for. Order has no meaning.
#[derive(Debug)]
pub struct CredentialLocations {
    pub(super) fields: Vec<FieldLocation>,
    /// Names of cookies.
    cookies: Vec<Box<str>>,
    /// Names of query parameters.
    parameters: Vec<Box<str>>,
    /// Names of fields besides [`STANDARD_FIELDS`], in lower case and with a dash for each punctuation mark.
    other_fields: Vec<Box<str>>,
    /// How to send a credential, as a sentence.
    hint: Box<str>,
    challenges: [Option<HeaderValue>; 4],
}

/// A field that carries a credential.
#[derive(Debug)]
pub(super) struct FieldLocation {
    pub(super) name: HeaderName,
    /// The schemes in front of the credential. If there are none, the whole value is the credential.
    pub(super) schemes: Vec<Scheme>,
}

/// An authentication scheme.
#[derive(Debug)]
pub(super) struct Scheme {
    name: Box<str>,
    is_bearer: bool,
    /// The part that is the credential, for `Basic`.
    pub(super) basic: Option<BasicPart>,
}

/// Why a response has a challenge (RFC 9110 section 11.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The request has no credential.
    Missing,
    /// The request is malformed.
    InvalidRequest,
    /// The credential is not valid.
    InvalidToken,
    /// The credential lacks a scope.
    InsufficientScope,
}

impl Scheme {
    /// Whether a field value begins with this scheme.
    #[inline]
    pub(super) fn is(&self, scheme: &[u8]) -> bool {
        // A comparison with a constant is cheaper, and most credentials have this scheme.
        if self.is_bearer {
            scheme.eq_ignore_ascii_case(b"bearer")
        } else {
            scheme.eq_ignore_ascii_case(self.name.as_bytes())
        }
    }
}

impl CredentialLocations {
    /// The locations of a validated configuration. Names that are not valid are ignored.
    pub fn new(locations: &[CredentialLocation]) -> Self {
        let mut fields: Vec<FieldLocation> = Vec::new();
        for (name, scheme) in locations.iter().filter_map(field) {
            match fields.iter_mut().find(|field| field.name == name) {
                Some(field) => field.schemes.extend(scheme),
                None => fields.push(FieldLocation { name, schemes: scheme.into_iter().collect() }),
            }
        }
        let names = |name: fn(&CredentialLocation) -> Option<&String>| {
            locations.iter().filter_map(name).map(|name| name.as_str().into()).collect()
        };
        let other = fields.iter().map(|field| field.name.as_str()).filter(|name| !STANDARD_FIELDS.contains(name));
        let fold = |byte: char| if byte.is_ascii_alphanumeric() { byte } else { '-' };
        Self {
            cookies: names(|location| location.cookie.as_ref()),
            parameters: names(|location| location.query.as_ref()),
            other_fields: other.map(|name| name.chars().map(fold).collect()).collect(),
            hint: hint(locations).into(),
            challenges: [
                Challenge::Missing,
                Challenge::InvalidRequest,
                Challenge::InvalidToken,
                Challenge::InsufficientScope,
            ]
            .map(|challenge| challenge_text(&fields, challenge).and_then(|text| text.try_into().ok())),
            fields,
        }
    }

    /// The locations of a configuration that names none: `Authorization: Bearer` and `X-API-Key`.
    pub fn standard() -> &'static Self {
        &STANDARD
    }

    /// The names of cookies that are credentials.
    pub fn cookies(&self) -> &[Box<str>] {
        &self.cookies
    }

    /// The names of query parameters that are credentials.
    pub fn parameters(&self) -> &[Box<str>] {
        &self.parameters
    }

    /// The names of fields that are credentials besides `Authorization` and `X-API-Key`, in lower case and with a dash for each
    /// punctuation mark.
    pub fn other_fields(&self) -> &[Box<str>] {
        &self.other_fields
    }

    /// Whether all locations are fields that are nothing but a credential: none is a cookie or a query parameter.
    pub(crate) fn are_fields(&self) -> bool {
        self.cookies.is_empty() && self.parameters.is_empty()
    }

    /// The names of all fields that carry a credential, except `Cookie`.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// How to send a credential, as a sentence.
    pub(super) fn hint(&self) -> &str {
        &self.hint
    }

    /// The value of `WWW-Authenticate`; `None` if the response needs none. A response with status 401 always has one.
    pub(super) fn challenge(&self, challenge: Challenge) -> Option<&HeaderValue> {
        self.challenges[challenge as usize].as_ref()
    }
}

/// The field of a location, and the scheme in it.
fn field(location: &CredentialLocation) -> Option<(HeaderName, Option<Scheme>)> {
    let scheme = |name: &str, basic| Some(Scheme { name: name.into(), is_bearer: name == BEARER, basic });
    if location.bearer {
        return Some((AUTHORIZATION, scheme(BEARER, None)));
    }
    if let Some(part) = location.basic {
        return Some((AUTHORIZATION, scheme("Basic", Some(part))));
    }
    let name = location.header.as_ref()?.parse().ok()?;
    Some((name, location.scheme.as_ref().and_then(|name| scheme(name, None))))
}

fn hint(locations: &[CredentialLocation]) -> String {
    let places: Vec<String> = locations.iter().map(place).collect();
    let place = match places.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    };
    format!("Send an API key as {place}.")
}

fn place(location: &CredentialLocation) -> String {
    let CredentialLocation { bearer: _, header, scheme, basic, cookie, query } = location;
    match (header, scheme, basic, cookie, query) {
        (Some(header), Some(scheme), ..) => format!("`{header}: {scheme} <key>`"),
        (Some(header), None, ..) => format!("`{header}: <key>`"),
        (.., Some(BasicPart::Username), _, _) => "the user name of `Authorization: Basic`".into(),
        (.., Some(BasicPart::Password), _, _) => "the password of `Authorization: Basic`".into(),
        (.., Some(cookie), _) => format!("the cookie `{cookie}`"),
        (.., Some(query)) => format!("the query parameter `{query}`"),
        _ => "`Authorization: Bearer <key>`".into(),
    }
}

/// The challenges for the schemes of `Authorization`. RFC 6750 section 3.1 has error codes; no other scheme has any.
fn challenge_text(fields: &[FieldLocation], challenge: Challenge) -> Option<String> {
    let error = match challenge {
        Challenge::Missing => None,
        Challenge::InvalidRequest => Some("invalid_request"),
        Challenge::InvalidToken => Some("invalid_token"),
        Challenge::InsufficientScope => Some("insufficient_scope"),
    };
    let is_unauthorized = matches!(challenge, Challenge::Missing | Challenge::InvalidToken);
    let authorization = fields.iter().find(|field| field.name == AUTHORIZATION);
    let schemes = authorization.map(|field| &field.schemes[..]).unwrap_or_default();
    let challenge = |scheme: &Scheme| match (&*scheme.name, scheme.basic, error) {
        (BEARER, None, Some(error)) => Some(format!(r#"Bearer {REALM}, error="{error}""#)),
        (BEARER, None, None) => Some(format!("Bearer {REALM}")),
        _ if !is_unauthorized => None,
        (_, Some(_), _) => Some(format!(r#"Basic {REALM}, charset="UTF-8""#)),
        (name, None, _) => Some(format!("{name} {REALM}")),
    };
    let challenges: Vec<String> = schemes.iter().filter_map(challenge).collect();
    match challenges.as_slice() {
        // RFC 9110 section 15.5.2 requires a challenge. No registered scheme stands for other fields, cookies and parameters.
        [] if is_unauthorized => Some(format!("Key {REALM}")),
        [] => None,
        // One field, because some proxies pass on only one.
        challenges => Some(challenges.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations(text: &str) -> CredentialLocations {
        let locations: Vec<CredentialLocation> = serde_saphyr::from_str(text).unwrap();
        CredentialLocations::new(&locations)
    }

    #[test]
    fn hint_names_every_location() {
        for (text, hint) in [
            (
                "[{bearer: true}, {header: X-API-Key}]",
                "Send an API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.",
            ),
            ("[{header: apikey}]", "Send an API key as `apikey: <key>`."),
            (
                "[{header: A, scheme: B}, {basic: password}, {cookie: c}, {query: q}]",
                "Send an API key as `A: B <key>`, the password of `Authorization: Basic`, the cookie `c` or the query parameter `q`.",
            ),
        ] {
            assert_eq!(locations(text).hint(), hint);
        }
    }

    #[test]
    fn challenge_names_the_schemes_of_authorization() {
        for (text, missing, invalid_token, insufficient_scope) in [
            (
                "[{bearer: true}, {header: X-API-Key}]",
                r#"Bearer realm="keygate""#,
                r#"Bearer realm="keygate", error="invalid_token""#,
                Some(r#"Bearer realm="keygate", error="insufficient_scope""#),
            ),
            ("[{cookie: c}]", r#"Key realm="keygate""#, r#"Key realm="keygate""#, None),
            (
                "[{basic: password}, {bearer: true}]",
                r#"Basic realm="keygate", charset="UTF-8", Bearer realm="keygate""#,
                r#"Basic realm="keygate", charset="UTF-8", Bearer realm="keygate", error="invalid_token""#,
                Some(r#"Bearer realm="keygate", error="insufficient_scope""#),
            ),
            (
                "[{header: Authorization, scheme: ApiKey}]",
                r#"ApiKey realm="keygate""#,
                r#"ApiKey realm="keygate""#,
                None,
            ),
        ] {
            let locations = locations(text);
            let value = |challenge| locations.challenge(challenge).map(|value| value.to_str().unwrap());
            assert_eq!(value(Challenge::Missing), Some(missing), "{text}");
            assert_eq!(value(Challenge::InvalidToken), Some(invalid_token), "{text}");
            assert_eq!(value(Challenge::InsufficientScope), insufficient_scope, "{text}");
            let invalid_request = locations.challenge(Challenge::InvalidRequest);
            assert_eq!(invalid_request.is_some(), insufficient_scope.is_some(), "{text}");
        }
    }

    #[test]
    fn fields_with_several_schemes_are_one_location() {
        let locations = locations("[{bearer: true}, {basic: username}, {header: X_Key}, {header: x-api-key}]");
        let schemes: Vec<_> = locations.fields.iter().map(|field| (field.name.as_str(), field.schemes.len())).collect();
        assert_eq!(schemes, [("authorization", 2), ("x_key", 0), ("x-api-key", 0)]);
        assert_eq!(locations.other_fields(), [Box::from("x-key")]);
    }
}
