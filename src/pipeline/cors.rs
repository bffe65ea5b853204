//! Cross-origin requests of browsers to a route (Fetch standard, section 3.2): responses to preflights, and the fields of other responses.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::headers::{FieldEdits, value_of};
use super::route_response::OwnResponse;
use crate::config::{OriginPattern, RouteConfig};
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::fields::{Fields, text};

/// The response fields of Keygate that pages may read.
const EXPOSED: [&str; 8] = [
    "X-Request-Id",
    "RateLimit-Policy",
    "RateLimit",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
];
/// The fields of an upstream that are removed.
const RESPONSE_FIELDS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// What pages of other origins may do on a route.
#[derive(Debug)]
pub(super) struct CorsPolicy {
    origins: Vec<OriginPattern>,
    credentials: bool,
    methods: HeaderValue,
    /// The value of `Access-Control-Allow-Headers`; `None` if all are allowed.
    headers: Option<HeaderValue>,
    exposed: HeaderValue,
    max_age: HeaderValue,
}

/// The part of a policy that applies to one request.
#[derive(Debug, Clone)]
pub(super) struct CorsGrant {
    policy: Arc<CorsPolicy>,
    /// The value of `Access-Control-Allow-Origin`; `None` if the origin is not allowed, or the request names none.
    origin: Option<HeaderValue>,
}

impl CorsPolicy {
    /// The policy of a validated configuration; `None` if the route has none. `credentials` are the locations of the route.
    pub(super) fn new(config: &RouteConfig, credentials: &CredentialLocations) -> Option<Arc<Self>> {
        let cors = config.cors.as_ref()?;
        let allows_all = cors.headers.iter().any(|name| name == "*");
        let headers = credentials.field_names().chain(cors.headers.iter().map(String::as_str));
        let exposed = EXPOSED.into_iter().chain(cors.expose_headers.iter().map(String::as_str));
        Some(Arc::new(Self {
            origins: cors.origins.iter().filter_map(|origin| OriginPattern::parse(origin)).collect(),
            credentials: cors.credentials,
            methods: list(cors.effective_methods(&config.methods).iter().map(String::as_str)),
            headers: (!allows_all).then(|| list(headers)),
            exposed: list(exposed),
            max_age: cors.max_age.0.as_secs().into(),
        }))
    }

    /// What the policy grants to a request with these fields.
    pub(super) fn grant<F: Fields>(self: &Arc<Self>, fields: &F) -> CorsGrant {
        let is_any = self.origins.contains(&OriginPattern::Any);
        let origin = if is_any { Some(HeaderValue::from_static("*")) } else { self.allowed_origin(fields) };
        CorsGrant { policy: Arc::clone(self), origin }
    }

    fn allowed_origin<F: Fields>(&self, fields: &F) -> Option<HeaderValue> {
        let mut values = fields.field_values(&ORIGIN);
        let origin = text(values.next()?)?;
        let is_allowed = values.next().is_none() && self.origins.iter().any(|pattern| pattern.matches(origin));
        if is_allowed { HeaderValue::from_str(origin).ok() } else { None }
    }
}

/// The method that a preflight asks about; `None` for other requests.
pub(super) fn preflight_method<F: Fields>(method: &Method, fields: &F) -> Option<Method> {
    if *method != Method::OPTIONS || !fields.has_field(&ORIGIN) {
        return None;
    }
    let mut values = fields.field_values(&ACCESS_CONTROL_REQUEST_METHOD);
    let requested = Method::from_bytes(values.next()?).ok()?;
    values.next().is_none().then_some(requested)
}

impl CorsGrant {
    /// Whether browsers may send a request of the origin with the credentials that they add on their own.
    pub(super) fn is_trusted(&self) -> bool {
        self.policy.credentials && self.origin.is_some()
    }

    /// The response to a preflight with these fields.
    pub(super) fn preflight<F: Fields>(&self, fields: &F) -> OwnResponse {
        let vary = HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers");
        let mut response = OwnResponse { status: StatusCode::NO_CONTENT, fields: vec![(VARY, vary)], body: None };
        if self.origin.is_none() {
            return response;
        }
        let policy = &self.policy;
        response.fields.push((ACCESS_CONTROL_ALLOW_METHODS, policy.methods.clone()));
        if let Some(headers) = policy.headers.clone().or_else(|| requested_headers(fields)) {
            response.fields.push((ACCESS_CONTROL_ALLOW_HEADERS, headers));
        }
        response.fields.push((ACCESS_CONTROL_MAX_AGE, policy.max_age.clone()));
        response
    }

    /// Adds the fields to a response of Keygate's own.
    pub(super) fn insert_into(&self, headers: &mut HeaderMap) {
        headers.append(VARY, VARY_ORIGIN);
        let Some(origin) = &self.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.policy.exposed.clone());
        if self.policy.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
    }

    /// Replaces the fields of an upstream's response. `fields` are its own.
    pub(super) fn edit<F: Fields>(&self, edits: &mut FieldEdits, fields: &F) {
        for name in RESPONSE_FIELDS.iter().filter(|name| fields.has_field(name)) {
            edits.replace(name, None);
        }
        edits.replace(&VARY, Some(vary(fields)));
        let Some(origin) = &self.origin else { return };
        edits.replace(&ACCESS_CONTROL_ALLOW_ORIGIN, Some(origin.clone()));
        edits.replace(&ACCESS_CONTROL_EXPOSE_HEADERS, Some(self.policy.exposed.clone()));
        if self.policy.credentials {
            edits.replace(&ACCESS_CONTROL_ALLOW_CREDENTIALS, Some(TRUE));
        }
    }
}

/// The value of `Vary` with `Origin` added.
fn vary<F: Fields>(fields: &F) -> HeaderValue {
    let values: Vec<&[u8]> = fields.field_values(&VARY).filter(|value| !value.trim_ascii().is_empty()).collect();
    let mut members = values.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let is_listed = members.any(|member| member == b"*" || member.eq_ignore_ascii_case(b"origin"));
    let own: &[&[u8]] = if is_listed { &[] } else { &[b"Origin"] };
    HeaderValue::from_bytes(&[&values, own].concat().join(&b", "[..])).unwrap_or(VARY_ORIGIN)
}

/// The headers that a preflight asks about, if they are names.
fn requested_headers<F: Fields>(fields: &F) -> Option<HeaderValue> {
    let names =
        fields.field_values(&ACCESS_CONTROL_REQUEST_HEADERS).flat_map(|value| value.split(|byte| *byte == b','));
    let names: Vec<HeaderName> =
        names.map(|name| HeaderName::from_bytes(name.trim_ascii())).collect::<Result<_, _>>().ok()?;
    (!names.is_empty()).then(|| list(names.iter().map(HeaderName::as_str)))
}

/// A list of distinct names.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> HeaderValue {
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !distinct.iter().any(|listed| listed.eq_ignore_ascii_case(name)) {
            distinct.push(name);
        }
    }
    value_of(distinct.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CredentialLocation;
    use crate::wire::fields::FieldList;

    fn policy(cors: &str, credentials: &[CredentialLocation]) -> Arc<CorsPolicy> {
        let text = format!("{{name: a, methods: [GET, PUT], cors: {cors}}}");
        let config: RouteConfig = serde_saphyr::from_str(&text).unwrap();
        CorsPolicy::new(&config, &CredentialLocations::new(credentials)).unwrap()
    }

    fn standard(cors: &str) -> Arc<CorsPolicy> {
        policy(cors, &CredentialLocation::standard())
    }

    fn parsed(text: &str) -> HeaderMap {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    fn shown(fields: &HeaderMap) -> String {
        let mut lines: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n")
    }

    /// The fields of the response to a preflight.
    fn preflight(policy: &Arc<CorsPolicy>, fields: &str) -> String {
        let fields = parsed(fields);
        let grant = policy.grant(&fields);
        let mut response = grant.preflight(&fields).into_response();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        grant.insert_into(response.headers_mut());
        shown(response.headers())
    }

    const VARY_PREFLIGHT: &str = "vary: Access-Control-Request-Method, Access-Control-Request-Headers\nvary: Origin";

    #[test]
    fn preflight_names_what_is_allowed() {
        let policy = standard("{origins: ['https://a'], headers: [X-A], credentials: true}");
        let fields = preflight(&policy, "origin: https://a");
        assert!(fields.starts_with("access-control-allow-credentials: true\naccess-control-allow-headers: authorization, x-api-key, X-A\naccess-control-allow-methods: GET, PUT\naccess-control-allow-origin: https://a\naccess-control-expose-headers: X-Request-Id,"), "{fields}");
        assert!(fields.ends_with(&format!("\naccess-control-max-age: 600\n{VARY_PREFLIGHT}")), "{fields}");
        for origin in ["", "origin: https://b", "origin: null", "origin: https://a\norigin: https://a"] {
            assert_eq!(preflight(&policy, origin), VARY_PREFLIGHT, "{origin}");
        }
    }

    #[test]
    fn all_headers_are_those_that_are_asked_about() {
        let policy = standard("{origins: ['*'], headers: ['*']}");
        let allowed = |fields: &str| {
            let fields = preflight(&policy, fields);
            assert!(fields.contains("access-control-allow-origin: *\n"), "{fields}");
            fields.lines().find_map(|line| line.strip_prefix("access-control-allow-headers: ")).map(str::to_owned)
        };
        assert_eq!(allowed("origin: https://b\naccess-control-request-headers: x-a,X-B").as_deref(), Some("x-a, x-b"));
        assert_eq!(allowed("origin: https://b\naccess-control-request-headers: x a"), None);
        assert_eq!(allowed("origin: https://b"), None);
    }

    #[test]
    fn fields_of_the_upstream_are_replaced() {
        let theirs = "access-control-allow-origin: *\naccess-control-allow-credentials: true\naccess-control-expose-headers: x\n\
                      access-control-allow-methods: X\naccess-control-allow-headers: x\naccess-control-max-age: 1";
        for (cors, request, vary, expected) in [
            (
                "{origins: ['https://a']}",
                "origin: https://a",
                "",
                "access-control-allow-origin: https://a\nvary: Origin",
            ),
            ("{origins: ['https://a']}", "origin: https://b", "", "vary: Origin"),
            ("{origins: ['https://a']}", "", "vary: Accept", "vary: Accept, Origin"),
            ("{origins: ['https://a']}", "", "vary: a\nvary: b", "vary: a, b, Origin"),
            ("{origins: ['https://a']}", "", "vary: a, ORIGIN", "vary: a, ORIGIN"),
            ("{origins: ['https://a']}", "", "vary: *", "vary: *"),
            ("{origins: ['*']}", "", "", "access-control-allow-origin: *\nvary: Origin"),
        ] {
            let mut fields = parsed(&format!("{theirs}\n{vary}"));
            let mut edits = FieldEdits::default();
            standard(cors).grant(&parsed(request)).edit(&mut edits, &fields);
            edits.apply(&mut fields);
            fields.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
            assert_eq!(shown(&fields), expected, "{cors} {request}");
        }
    }

    #[test]
    fn only_listed_origins_are_trusted_with_credentials() {
        for (cors, origin, is_trusted) in [
            ("{origins: ['https://a'], credentials: true}", "https://a", true),
            ("{origins: ['https://a'], credentials: true}", "https://b", false),
            ("{origins: ['https://a']}", "https://a", false),
            ("{origins: ['*']}", "https://a", false),
        ] {
            let fields = [("origin", origin.as_bytes())];
            assert_eq!(standard(cors).grant(&FieldList(&fields)).is_trusted(), is_trusted, "{cors} {origin}");
        }
    }

    #[test]
    fn preflight_is_recognized_by_its_fields() {
        for (method, fields, expected) in [
            ("OPTIONS", "origin: a\naccess-control-request-method: PUT", Some("PUT")),
            ("GET", "origin: a\naccess-control-request-method: PUT", None),
            ("OPTIONS", "access-control-request-method: PUT", None),
            ("OPTIONS", "origin: a", None),
            ("OPTIONS", "origin: a\naccess-control-request-method: P T", None),
            ("OPTIONS", "origin: a\naccess-control-request-method: PUT\naccess-control-request-method: GET", None),
        ] {
            let found = preflight_method(&method.parse().unwrap(), &parsed(fields));
            assert_eq!(found.as_ref().map(Method::as_str), expected, "{method} {fields}");
        }
    }
}
