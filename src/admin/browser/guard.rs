//! Refuses requests that a foreign web page makes a browser send: with 403, before authentication and before the body is read.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::cors::Cors;
use super::host::AllowedHosts;
use super::origin::Site;
use crate::admin::body::drain;
use crate::admin::error::{ApiError, Reason};

/// The types of bodies that a form can send, and a script without a preflight request (Fetch standard, "CORS-safelisted request-header").
const FORM_TYPES: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// What browsers may do.
#[derive(Clone)]
pub struct BrowserRules {
    /// The names that requests may have in `Host`; `None` for any, because callers are authenticated.
    pub hosts: Option<AllowedHosts>,
    /// The origins whose scripts may call; `None` for none.
    pub cors: Option<Cors>,
}

/// Refuses requests of foreign web pages, and answers preflight requests.
pub(in crate::admin) async fn guard(State(rules): State<Arc<BrowserRules>>, request: Request, next: Next) -> Response {
    // Probes come from proxies that set any Host, and the responses are not secret.
    if request.uri().path().starts_with("/health/") {
        return next.run(request).await;
    }
    if let Some(why) = rules.refusal(&request) {
        let (host, origin) = (header(request.headers(), "host"), header(request.headers(), "origin"));
        tracing::warn!(host, origin, path = request.uri().path(), "a request to the admin API was refused: {why}");
        drain(request.into_body()).await;
        return ApiError::new(Reason::Forbidden, why).into_response();
    }
    let (Some(cors), Site::Other(Some(origin))) = (&rules.cors, Site::of(request.headers())) else {
        let mut response = next.run(request).await;
        if rules.cors.is_some() {
            response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
        }
        return response;
    };
    let origin = origin.clone();
    if Cors::is_preflight(request.method(), request.headers()) {
        let mut response = StatusCode::NO_CONTENT.into_response();
        cors.describe_preflight(&origin, request.headers(), response.headers_mut());
        return response;
    }
    let mut response = next.run(request).await;
    cors.describe(&origin, response.headers_mut());
    response
}

impl BrowserRules {
    /// Why a request is refused; `None` if it is not.
    fn refusal(&self, request: &Request) -> Option<&'static str> {
        let headers = request.headers();
        if self.hosts.as_ref().is_some_and(|hosts| !hosts.allow(request.uri(), headers)) {
            return Some(
                "the name in Host is not allowed: use an IP address or localhost, or add it to serve.http.allowed_hosts",
            );
        }
        match Site::of(headers) {
            Site::Other(origin) if !self.allows(origin) => Some(
                "the request is from a page of another site: add its origin to serve.http.cors.allowed_origins to allow it",
            ),
            Site::Same | Site::Other(_) if has_form_body(request) => {
                Some("a request of a browser must have a body of type application/json")
            }
            Site::NotABrowser | Site::Same | Site::Other(_) => None,
        }
    }

    fn allows(&self, origin: Option<&HeaderValue>) -> bool {
        self.cors.as_ref().zip(origin).is_some_and(|(cors, origin)| cors.allows(origin))
    }
}

/// Whether a request has a body of a type that a form can send, or of no type.
fn has_form_body(request: &Request) -> bool {
    if request.body().is_end_stream() {
        return false;
    }
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return true };
    let essence = value.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    essence.is_empty() || FORM_TYPES.iter().any(|form| form.eq_ignore_ascii_case(essence))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::config::CorsConfig;

    const OWN: (&str, &str) = ("origin", "http://127.0.0.1");
    const CONSOLE: (&str, &str) = ("origin", "https://console.example");

    fn rules() -> BrowserRules {
        let cors = CorsConfig {
            enabled: true,
            allowed_origins: vec!["https://console.example".into()],
            ..CorsConfig::default()
        };
        BrowserRules { hosts: Some(AllowedHosts::default()), cors: Cors::new(&cors) }
    }

    fn is_refused(fields: &[(&str, &str)], body: &'static str) -> bool {
        let mut request = http::Request::post("/v2alpha1/admin/issuedApiKeys").header("host", "127.0.0.1");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        rules().refusal(&request.body(Body::from(body)).unwrap()).is_some()
    }

    #[test]
    fn requests_of_other_programs_pass_with_any_type() {
        for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json"] {
            assert!(!is_refused(&[("content-type", kind)], "{}"), "{kind}");
        }
        assert!(!is_refused(&[], "{}"));
    }

    #[test]
    fn body_of_a_form_is_refused_from_any_page() {
        for origin in [OWN, CONSOLE, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")] {
            for kind in ["text/plain", "TEXT/Plain; charset=UTF-8", "multipart/form-data; boundary=a", ""] {
                assert!(is_refused(&[origin, ("content-type", kind)], "{}"), "{origin:?} {kind}");
            }
            assert!(is_refused(&[origin], "{}"), "{origin:?}");
            assert!(!is_refused(&[origin, ("content-type", "application/json")], "{}"), "{origin:?}");
            assert!(!is_refused(&[origin], ""), "{origin:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_unless_their_origin_is_allowed() {
        let json = ("content-type", "application/json");
        assert!(is_refused(&[("origin", "https://evil.example"), json], "{}"));
        assert!(is_refused(&[("origin", "null"), json], "{}"));
        assert!(is_refused(&[("sec-fetch-site", "cross-site"), json], "{}"));
        assert!(!is_refused(&[CONSOLE, ("sec-fetch-site", "cross-site"), json], "{}"));
    }
}
