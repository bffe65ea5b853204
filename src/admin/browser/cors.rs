//! The CORS protocol of the Fetch standard, for the origins of `serve.http.cors`.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::CorsConfig;

/// The origins that scripts may call the admin API from, and the headers that tell browsers so.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Vec<OriginPattern>,
    methods: HeaderValue,
    /// `None` for every header.
    headers: Option<HeaderValue>,
    exposed: HeaderValue,
    credentials: bool,
    max_age: u32,
    debug: bool,
}

/// An allowed origin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OriginPattern {
    Any,
    Exact(Box<str>),
    /// The text up to the host, and the end of the host with its dot.
    Below(Box<str>, Box<str>),
}

impl OriginPattern {
    fn parse(text: &str) -> Self {
        match text.split_once("*.") {
            _ if text == "*" => Self::Any,
            Some((scheme, domain)) => Self::Below(scheme.into(), format!(".{domain}").into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Origins of browsers are in lower case. A `*` stands for whole labels.
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(allowed) => **allowed == *origin,
            Self::Below(scheme, domain) => {
                let labels = origin.strip_prefix(&**scheme).and_then(|host| host.strip_suffix(&**domain));
                let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
                labels.is_some_and(|labels| !labels.is_empty() && labels.bytes().all(is_label))
            }
        }
    }
}

impl Cors {
    /// The settings of a configuration; `None` if cross-origin calls are not allowed.
    pub fn new(config: &CorsConfig) -> Option<Self> {
        let list = |texts: &[String]| HeaderValue::try_from(texts.join(", ")).unwrap_or(HeaderValue::from_static(""));
        let any_header = config.allowed_headers.iter().any(|header| header == "*");
        config.enabled.then(|| Self {
            origins: config.allowed_origins.iter().map(|origin| OriginPattern::parse(origin)).collect(),
            methods: list(&config.allowed_methods),
            headers: (!any_header).then(|| list(&config.allowed_headers)),
            exposed: list(&config.exposed_headers),
            credentials: config.allow_credentials,
            max_age: config.max_age,
            debug: config.debug,
        })
    }

    /// Whether scripts of an origin may call.
    pub(super) fn allows(&self, origin: &HeaderValue) -> bool {
        let is_allowed = origin.to_str().is_ok_and(|origin| self.origins.iter().any(|pattern| pattern.matches(origin)));
        if self.debug {
            tracing::info!(?origin, is_allowed, "CORS: a script of another site calls the admin API");
        }
        is_allowed
    }

    /// Whether a request is a preflight request.
    pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Sets the headers of the response to a preflight request of an allowed origin.
    pub(super) fn describe_preflight(&self, origin: &HeaderValue, request: &HeaderMap, response: &mut HeaderMap) {
        self.describe(origin, response);
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let headers = self.headers.as_ref().or_else(|| request.get(ACCESS_CONTROL_REQUEST_HEADERS));
        if let Some(headers) = headers {
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        response.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.into());
        for name in [ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS] {
            response.append(VARY, HeaderName::into(name));
        }
    }

    /// Sets the headers of the response to a request of an allowed origin.
    pub(super) fn describe(&self, origin: &HeaderValue, response: &mut HeaderMap) {
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.append(VARY, HeaderValue::from_static("origin"));
        response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        if self.credentials {
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_stands_for_whole_labels() {
        let pattern = OriginPattern::parse("https://*.example.com");
        for (origin, is_allowed) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://evilexample.com", false),
            ("http://a.example.com", false),
            ("https://a.example.com:8443", false),
            ("https://a.example.com.evil.example", false),
            ("https://evil.example/.example.com", false),
        ] {
            assert_eq!(pattern.matches(origin), is_allowed, "{origin}");
        }
        let exact = OriginPattern::parse("http://localhost:3000");
        assert!(exact.matches("http://localhost:3000") && !exact.matches("http://localhost:30001"));
        assert!(OriginPattern::parse("*").matches("null"));
    }

    #[test]
    fn preflight_response_has_the_settings() {
        let config = CorsConfig {
            enabled: true,
            allowed_origins: vec!["https://a.example".into()],
            max_age: 60,
            ..CorsConfig::default()
        };
        assert!(Cors::new(&CorsConfig::default()).is_none());
        let cors = Cors::new(&config).unwrap();
        let origin = HeaderValue::from_static("https://a.example");
        assert!(cors.allows(&origin) && !cors.allows(&HeaderValue::from_static("https://b.example")));
        let mut response = HeaderMap::new();
        cors.describe_preflight(&origin, &HeaderMap::new(), &mut response);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_METHODS], "GET, POST, PUT, PATCH, DELETE");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_HEADERS], "Authorization, Content-Type");
        assert_eq!(response[ACCESS_CONTROL_MAX_AGE], "60");
        assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
