//! `gateway.credentials` and `gateway.routes[].credentials`: where requests carry their credential.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::{ConfigErrors, Problems};

/// Maximum length of a name.
const NAME_MAX: usize = 100;

/// Headers that cannot carry a credential: they frame the message, name its target, or are set or read by Keygate.
const RESERVED_HEADERS: [&str; 26] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "proxy-connection",
    "range",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "x-request-id",
    "accept",
    "accept-encoding",
];
const RESERVED_PREFIXES: [&str; 3] = ["x-keygate-", "x-forwarded-", "sec-"];

/// A place in a request where its credential can be. Exactly one of `bearer`, `header`, `basic`, `cookie` and `query` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialLocation {
    /// `Authorization: Bearer <credential>` (RFC 6750).
    pub bearer: bool,
    /// Name of a header whose value is the credential.
    pub header: Option<String>,
    /// With `header`: the authentication scheme in front of the credential, for example `ApiKey` for
    /// `Authorization: ApiKey <credential>`. Values with another scheme are ignored.
    pub scheme: Option<String>,
    /// The part of `Authorization: Basic` (RFC 7617) that is the credential. The other part is ignored.
    pub basic: Option<BasicPart>,
    /// Name of a cookie. A cookie is sent by browsers without being asked, so requests of other sites are rejected, see
    /// docs/credentials.md.
    pub cookie: Option<String>,
    /// Name of a query parameter. URLs are stored in many places; use it only if clients cannot send anything else.
    pub query: Option<String>,
}

/// A part of `Authorization: Basic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BasicPart {
    /// The text before the first colon.
    Username,
    /// The text after the first colon.
    Password,
}

impl CredentialLocation {
    /// `Authorization: Bearer <credential>`.
    pub fn bearer() -> Self {
        Self { bearer: true, ..Self::default() }
    }

    /// A header whose value is the credential.
    pub fn header(name: impl Into<String>) -> Self {
        Self { header: Some(name.into()), ..Self::default() }
    }

    /// A header with an authentication scheme in front of the credential.
    pub fn scheme(header: impl Into<String>, scheme: impl Into<String>) -> Self {
        Self { scheme: Some(scheme.into()), ..Self::header(header) }
    }

    /// A part of `Authorization: Basic`.
    pub fn basic(part: BasicPart) -> Self {
        Self { basic: Some(part), ..Self::default() }
    }

    /// A cookie.
    pub fn cookie(name: impl Into<String>) -> Self {
        Self { cookie: Some(name.into()), ..Self::default() }
    }

    /// A query parameter.
    pub fn query(name: impl Into<String>) -> Self {
        Self { query: Some(name.into()), ..Self::default() }
    }

    /// The locations without a configuration: `Authorization: Bearer` and `X-API-Key`.
    pub fn standard() -> Vec<Self> {
        vec![Self::bearer(), Self::header("X-API-Key")]
    }

    /// Checks a list of locations. `setting` is its name in errors.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong with it.
    pub fn check(setting: &str, locations: &[Self]) -> Result<(), ConfigErrors> {
        let mut problems = Problems::default();
        validate(setting, locations, &mut problems);
        problems.result(())
    }

    fn validate(&self, path: &str, problems: &mut Problems) {
        let given =
            [self.bearer, self.header.is_some(), self.basic.is_some(), self.cookie.is_some(), self.query.is_some()];
        if given.into_iter().filter(|is_given| *is_given).count() != 1 {
            problems.add(path, "must have exactly one of `bearer: true`, `header`, `basic`, `cookie` and `query`");
        }
        if self.scheme.is_some() && self.header.is_none() {
            problems.add(&format!("{path}.scheme"), "belongs to `header`; add for example `header: Authorization`");
        }
        if self.header.as_deref().is_some_and(|name| !is_token(name) || is_reserved(name)) {
            problems.add(
                &format!("{path}.header"),
                "must be the name of a header that carries nothing else, such as X-API-Key",
            );
        }
        if self.scheme.as_deref().is_some_and(|scheme| !is_token(scheme)) {
            problems.add(&format!("{path}.scheme"), "must be one word, such as ApiKey");
        }
        if let Some(scheme) = &self.scheme
            && self.is_authorization()
            && ["bearer", "basic"].iter().any(|own| own.eq_ignore_ascii_case(scheme))
        {
            problems
                .add(&format!("{path}.scheme"), "has a setting of its own; write `bearer: true` or `basic: password`");
        }
        if self.cookie.as_deref().is_some_and(|name| !is_token(name)) {
            problems.add(&format!("{path}.cookie"), "must be the name of a cookie");
        }
        if self.query.as_deref().is_some_and(|name| !is_parameter(name)) {
            problems.add(&format!("{path}.query"), "must consist of letters, digits, -, ., _ and ~");
        }
    }

    /// Whether the credential is in `Authorization`.
    fn is_authorization(&self) -> bool {
        let is_named = || self.header.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("authorization"));
        self.bearer || self.basic.is_some() || is_named()
    }
}

/// Adds what is wrong with a list of locations.
pub(super) fn validate(path: &str, locations: &[CredentialLocation], problems: &mut Problems) {
    if locations.is_empty() {
        problems.add(path, "must have at least one entry; a route that needs no credential has `auth: none`");
    }
    for (index, location) in locations.iter().enumerate() {
        location.validate(&format!("{path}.{index}"), problems);
    }
    let kind = |location: &CredentialLocation| {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_lowercase());
        let is_basic = location.basic.is_some();
        let (cookie, query) = (location.cookie.clone(), location.query.clone());
        (location.bearer, is_basic, lower(&location.header), lower(&location.scheme), cookie, query)
    };
    problems.unique(path, locations.iter().map(kind));
    for (index, location) in locations.iter().enumerate() {
        let (Some(name), None) = (&location.header, &location.scheme) else { continue };
        let shares = |(other, entry): (usize, &CredentialLocation)| {
            let is_same = entry.header.as_ref().is_some_and(|entry| entry.eq_ignore_ascii_case(name));
            other != index
                && (is_same && entry.scheme.is_some() || location.is_authorization() && entry.is_authorization())
        };
        if locations.iter().enumerate().any(shares) {
            problems.add(
                &format!("{path}.{index}.header"),
                "is read with a scheme by another entry; add `scheme` here, or remove one of them",
            );
        }
    }
}

/// Whether the text is a token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_legal)
}

/// Whether the text needs no encoding in a query.
fn is_parameter(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_legal)
}

fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let locations: Vec<CredentialLocation> = serde_saphyr::from_str(text).unwrap();
        let errors = CredentialLocation::check("c", &locations).err().map(|errors| errors.0).unwrap_or_default();
        errors.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn usable_lists_are_accepted() {
        for text in [
            "[{bearer: true}, {header: X-API-Key}]",
            "[{header: apikey}, {bearer: true}, {basic: password}, {cookie: token}, {query: apikey}]",
            "[{header: Authorization, scheme: ApiKey}, {header: authorization, scheme: Token}, {bearer: true}]",
            "[{header: Authorization}, {cookie: token}]",
        ] {
            assert_eq!(problems(text), Vec::<String>::new(), "{text}");
        }
        let standard: Vec<CredentialLocation> =
            serde_saphyr::from_str("[{bearer: true}, {header: X-API-Key}]").unwrap();
        assert_eq!(standard, CredentialLocation::standard());
    }

    #[test]
    fn unusable_lists_are_rejected() {
        for (text, path) in [
            ("[]", "c"),
            ("[{}]", "c.0"),
            ("[{bearer: false}]", "c.0"),
            ("[{bearer: true, cookie: a}]", "c.0"),
            ("[{header: 'a b'}]", "c.0.header"),
            ("[{header: Host}]", "c.0.header"),
            ("[{header: X-Keygate-Key-Id}]", "c.0.header"),
            ("[{bearer: true, scheme: a}]", "c.0.scheme"),
            ("[{header: a, scheme: 'b c'}]", "c.0.scheme"),
            ("[{header: Authorization, scheme: bearer}]", "c.0.scheme"),
            ("[{cookie: 'a=b'}]", "c.0.cookie"),
            ("[{cookie: ''}]", "c.0.cookie"),
            ("[{query: 'a b'}]", "c.0.query"),
            ("[{query: a, }, {query: a}]", "c.1"),
            ("[{header: a}, {header: A}]", "c.1"),
            ("[{basic: username}, {basic: password}]", "c.1"),
            ("[{bearer: true}, {header: Authorization}]", "c.1.header"),
            ("[{header: a, scheme: b}, {header: A}]", "c.1.header"),
        ] {
            assert_eq!(problems(text), [path], "{text}");
        }
    }
}
