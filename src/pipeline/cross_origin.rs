//! Requests that a browser sends for another site, with a credential that it adds on its own.
//!
//! A browser adds cookies, and the user name and password of `Authorization: Basic`, to whatever request a page makes, also one of another
//! site. Such a request is rejected unless it only reads. A WebSocket begins with GET and is not subject to CORS, so it counts as a write.

use http::header::{HOST, ORIGIN, UPGRADE};
use http::{HeaderName, Method};

use super::route::normal_host;
use crate::wire::fields::{Fields, text};

/// Which site a request comes from (Fetch Metadata Request Headers, section 2.1).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request comes from another origin than `host`, or its `Host` field, and may have an effect. Requests without
/// `Sec-Fetch-Site` and `Origin` do not come from a browser.
pub(super) fn is_cross_origin_write<F: Fields>(method: &Method, host: Option<&str>, fields: &F) -> bool {
    let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !fields.has_field(&UPGRADE);
    let named = || fields.field_values(&HOST).next().and_then(text).unwrap_or_default();
    !is_read && is_cross_origin(host.unwrap_or_else(named), fields)
}

fn is_cross_origin<F: Fields>(host: &str, fields: &F) -> bool {
    if fields.has_field(&SEC_FETCH_SITE) {
        return !fields.field_values(&SEC_FETCH_SITE).all(|site| matches!(site, b"same-origin" | b"none"));
    }
    !fields.field_values(&ORIGIN).all(|origin| text(origin).is_some_and(|origin| is_origin_of(origin, host)))
}

/// Whether an origin has this host and port. The scheme is not compared: a proxy may have ended TLS.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let without_port = |host: &'_ str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    normal_host(authority).is_some() && without_port(authority) == without_port(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::FieldList;

    #[test]
    fn writes_of_other_origins_are_found() {
        for (method, fields, expected) in [
            ("POST", "", false),
            ("POST", "sec-fetch-site: same-origin", false),
            ("POST", "sec-fetch-site: none", false),
            ("POST", "sec-fetch-site: same-site", true),
            ("POST", "sec-fetch-site: cross-site", true),
            ("POST", "sec-fetch-site: ", true),
            ("POST", "sec-fetch-site: same-origin\norigin: https://evil.example", false),
            ("POST", "sec-fetch-site: same-origin\nsec-fetch-site: cross-site", true),
            ("POST", "origin: https://api.example.com", false),
            ("POST", "origin: http://API.example.com:80", false),
            ("POST", "origin: https://api.example.com:8443", true),
            ("POST", "origin: https://evil.example", true),
            ("POST", "origin: https://api.example.com.evil.example", true),
            ("POST", "origin: null", true),
            ("POST", "origin: ", true),
            ("DELETE", "origin: https://evil.example", true),
            ("GET", "origin: https://evil.example\nsec-fetch-site: cross-site", false),
            ("GET", "origin: https://evil.example\nupgrade: websocket", true),
            ("GET", "origin: https://api.example.com\nupgrade: websocket", false),
        ] {
            let list: Vec<_> = fields.lines().filter_map(|line| line.split_once(": ")).collect();
            let list: Vec<_> = list.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let found = is_cross_origin_write(&method.parse().unwrap(), Some("api.example.com"), &FieldList(&list));
            assert_eq!(found, expected, "{method} {fields}");
        }
        let origin = [("origin", &b"http://h:8080"[..]), ("host", b"h:8080")];
        assert!(!is_cross_origin_write(&Method::POST, Some("h:8080"), &FieldList(&origin)));
        assert!(!is_cross_origin_write(&Method::POST, None, &FieldList(&origin)));
        assert!(is_cross_origin_write(&Method::POST, None, &FieldList(&origin[..1])));
        assert!(is_cross_origin_write(&Method::POST, Some(""), &FieldList(&origin)));
    }
}
