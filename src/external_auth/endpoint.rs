//! The endpoints for HTTP, and where the proxies of each endpoint put the parts of the original request.

use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::original::{Invalid, Original, address, last_address, single};
use crate::pipeline::route::normal_host;
use crate::wire::forwarded::{X_FORWARDED_FOR, X_FORWARDED_HOST};

/// The prefix of the original path at the endpoint for Envoy.
pub(super) const ENVOY_PREFIX: &str = "/envoy";

const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-original-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

const METHOD_MISSING: Invalid = "The method of the original request is missing.";
const TARGET_MISSING: Invalid = "The path of the original request is missing.";
const HOST_MISSING: Invalid = "The host of the original request is missing.";
const URL_INVALID: Invalid = "X-Original-URL is not an absolute URL.";
const TARGETS_DIFFER: Invalid = "The fields that name the original path contradict each other.";
const HOSTS_DIFFER: Invalid = "The fields that name the original host contradict each other.";

/// An endpoint for HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `auth_request` of nginx and ingress-nginx.
    Nginx,
    /// `ForwardAuth` of Traefik, `forward_auth` of Caddy.
    Forward,
    /// `ext_authz` of Envoy.
    Envoy,
}

impl Endpoint {
    /// The original request of a check.
    pub(super) fn original(self, check_request: &Parts) -> Result<Original<'_>, Invalid> {
        match self {
            Self::Nginx => nginx(check_request),
            Self::Forward => forward(&check_request.headers),
            Self::Envoy => envoy(check_request),
        }
    }
}

fn nginx(check_request: &Parts) -> Result<Original<'_>, Invalid> {
    let fields = &check_request.headers;
    let method = single(fields, &X_ORIGINAL_METHOD)?.ok_or(METHOD_MISSING)?;
    let url = single(fields, &X_ORIGINAL_URL)?.map(split_url).transpose()?;
    let target = agreeing(
        [single(fields, &X_ORIGINAL_URI)?, url.map(|(_, target)| target)],
        |one, other| one == other,
        TARGETS_DIFFER,
    )?;
    let named = [url.map(|(host, _)| host), single(fields, &X_ORIGINAL_HOST)?, single(fields, &X_FORWARDED_HOST)?];
    let host = match agreeing(named, same_host, HOSTS_DIFFER)? {
        Some(host) => host,
        None => requested_host(check_request)?,
    };
    let client_ip = match single(fields, &X_REAL_IP)? {
        Some(value) => address(value),
        None => last_address(fields, &X_FORWARDED_FOR),
    };
    Original::new(method, host, target.ok_or(TARGET_MISSING)?, client_ip)
}

fn forward(fields: &HeaderMap) -> Result<Original<'_>, Invalid> {
    let method = single(fields, &X_FORWARDED_METHOD)?.ok_or(METHOD_MISSING)?;
    let host = single(fields, &X_FORWARDED_HOST)?.ok_or(HOST_MISSING)?;
    let target = single(fields, &X_FORWARDED_URI)?.ok_or(TARGET_MISSING)?;
    Original::new(method, host, target, last_address(fields, &X_FORWARDED_FOR))
}

fn envoy(check_request: &Parts) -> Result<Original<'_>, Invalid> {
    let target = check_request.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let target = target.strip_prefix(ENVOY_PREFIX).ok_or(TARGET_MISSING)?;
    Original::new(
        check_request.method.as_str(),
        requested_host(check_request)?,
        target,
        envoy_client(&check_request.headers)?,
    )
}

fn envoy_client(fields: &HeaderMap) -> Result<Option<IpAddr>, Invalid> {
    Ok(match single(fields, &X_ENVOY_EXTERNAL_ADDRESS)? {
        Some(value) => address(value),
        None => last_address(fields, &X_FORWARDED_FOR),
    })
}

/// The host of the check itself: its authority, and its `Host` field.
fn requested_host(check_request: &Parts) -> Result<&str, Invalid> {
    let authority = check_request.uri.authority().map(http::uri::Authority::as_str);
    let host = agreeing([authority, single(&check_request.headers, &HOST)?], same_host, HOSTS_DIFFER)?;
    host.ok_or(HOST_MISSING)
}

/// The first of the values that are present; an error if one differs from another.
fn agreeing<const N: usize>(
    values: [Option<&str>; N],
    same: impl Fn(&str, &str) -> bool,
    differ: Invalid,
) -> Result<Option<&str>, Invalid> {
    let mut present = values.into_iter().flatten();
    let first = present.next();
    match first {
        Some(first) if !present.all(|other| same(first, other)) => Err(differ),
        first => Ok(first),
    }
}

/// Whether two texts name the same host. Ports do not distinguish hosts, because routes do not name them.
fn same_host(one: &str, other: &str) -> bool {
    normal_host(one).is_some_and(|one| normal_host(other) == Some(one))
}

/// The host and the target of an absolute URL.
fn split_url(url: &str) -> Result<(&str, &str), Invalid> {
    let (scheme, rest) = url.split_once("://").ok_or(URL_INVALID)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(URL_INVALID);
    }
    let (host, target) = rest.split_at(rest.find('/').ok_or(URL_INVALID)?);
    // Not a host: credentials of the URL, or a query without a path.
    normal_host(host).map(|_| (host, target)).ok_or(URL_INVALID)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use proptest::prelude::*;

    use super::*;

    /// The method, host, path and client of a check to an endpoint, with fields one a line.
    fn read(endpoint: Endpoint, line: &str, fields: &str) -> Result<String, Invalid> {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut check_request = Request::builder().method(method).uri(uri).body(()).unwrap();
        for (name, value) in fields.lines().filter_map(|line| line.split_once(':')) {
            let name: HeaderName = name.trim().parse().unwrap();
            check_request.headers_mut().append(name, HeaderValue::from_str(value.trim()).unwrap());
        }
        let (check_request, ()) = check_request.into_parts();
        let original = endpoint.original(&check_request)?;
        let head = original.head(&check_request.headers);
        let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
        let client = original.client_ip().map_or("-".to_owned(), |client| client.to_string());
        Ok(format!("{} {}{}{query} {client}", head.method, head.authority.unwrap(), head.path))
    }

    const NGINX: &str = "X-Original-Method: POST\nX-Original-URI: /a?b\nX-Original-Host: api\nX-Real-IP: 192.0.2.1\n";
    const INGRESS: &str = "X-Original-Method: POST\nX-Original-URL: https://api:443/a?b\nX-Real-IP: 192.0.2.1\n";
    const FORWARD: &str =
        "X-Forwarded-Method: POST\nX-Forwarded-Uri: /a?b\nX-Forwarded-Host: api\nX-Forwarded-For: 192.0.2.1\n";

    fn without(fields: &str, name: &str) -> String {
        fields.lines().filter(|line| !line.starts_with(name)).fold(String::new(), |all, line| all + line + "\n")
    }

    #[test]
    fn nginx_describes_the_request_in_fields() {
        let read = |fields: &str| read(Endpoint::Nginx, "GET /nginx", fields);
        assert_eq!(read(NGINX).as_deref(), Ok("POST api/a?b 192.0.2.1"));
        assert_eq!(read(INGRESS).as_deref(), Ok("POST api:443/a?b 192.0.2.1"));
        let by_host = without(NGINX, "X-Original-Host") + "Host: other\n";
        assert_eq!(read(&by_host).as_deref(), Ok("POST other/a?b 192.0.2.1"));
        let by_list = without(NGINX, "X-Real-IP") + "X-Forwarded-For: 1.1.1.1, 192.0.2.2\n";
        assert_eq!(read(&by_list).as_deref(), Ok("POST api/a?b 192.0.2.2"));
        let unix = without(NGINX, "X-Real-IP") + "X-Real-IP: unix:\nX-Forwarded-For: 1.1.1.1\n";
        assert_eq!(read(&unix).as_deref(), Ok("POST api/a?b -"));
        let agreeing = format!("{INGRESS}X-Original-URI: /a?b\nX-Forwarded-Host: API.\n");
        assert_eq!(read(&agreeing).as_deref(), Ok("POST api:443/a?b 192.0.2.1"));
    }

    #[test]
    fn incomplete_and_contradictory_checks_of_nginx_are_invalid() {
        let read = |fields: &str| read(Endpoint::Nginx, "GET /nginx", fields);
        assert_eq!(read(&without(NGINX, "X-Original-Method")), Err(METHOD_MISSING));
        assert_eq!(read(&without(NGINX, "X-Original-URI")), Err(TARGET_MISSING));
        assert_eq!(read(&without(NGINX, "X-Original-Host")), Err(HOST_MISSING));
        for (added, why) in [
            ("X-Original-URI: /open", TARGETS_DIFFER),
            ("X-Original-URI: /a", TARGETS_DIFFER),
            ("X-Original-Host: other", HOSTS_DIFFER),
            ("X-Forwarded-Host: other", HOSTS_DIFFER),
            ("X-Forwarded-Host: a b", HOSTS_DIFFER),
        ] {
            assert_eq!(read(&format!("{INGRESS}{added}\n")), Err(why), "{added}");
        }
        for name in ["X-Original-Method", "X-Original-URI", "X-Original-Host", "X-Real-IP"] {
            assert!(read(&format!("{NGINX}{name}: x\n")).unwrap_err().contains("more than once"), "{name}");
        }
        assert!(read(&format!("{INGRESS}X-Original-URL: https://api/a\n")).is_err());
        for url in ["/a", "ftp://api/a", "https://api", "https://api?a/b", "https:///a"] {
            assert!(read(&format!("X-Original-Method: GET\nX-Original-URL: {url}\n")).is_err(), "{url}");
        }
    }

    #[test]
    fn forward_auth_describes_the_request_in_forwarded_fields() {
        let read = |fields: &str| read(Endpoint::Forward, "GET /forward", fields);
        assert_eq!(read(FORWARD).as_deref(), Ok("POST api/a?b 192.0.2.1"));
        assert_eq!(read(&format!("{FORWARD}X-Forwarded-For: 1.1.1.1\n")).as_deref(), Ok("POST api/a?b 1.1.1.1"));
        for (name, why) in [
            ("X-Forwarded-Method", METHOD_MISSING),
            ("X-Forwarded-Uri", TARGET_MISSING),
            ("X-Forwarded-Host", HOST_MISSING),
        ] {
            assert_eq!(read(&(without(FORWARD, name) + "Host: x\n")), Err(why), "{name}");
            assert!(read(&format!("{FORWARD}{name}: x\n")).unwrap_err().contains("more than once"), "{name}");
        }
    }

    #[test]
    fn envoy_prefixes_the_path() {
        let read = |line: &str, fields: &str| read(Endpoint::Envoy, line, fields);
        let host = "Host: api\n";
        assert_eq!(read("PUT /envoy/a?b", host).as_deref(), Ok("PUT api/a?b -"));
        assert_eq!(read("GET /envoy/envoy/a", host).as_deref(), Ok("GET api/envoy/a -"));
        assert_eq!(read("GET http://api/envoy//a", "").as_deref(), Ok("GET api//a -"));
        let client = format!("{host}X-Envoy-External-Address: 192.0.2.1\nX-Forwarded-For: 1.1.1.1\n");
        assert_eq!(read("GET /envoy/", &client).as_deref(), Ok("GET api/ 192.0.2.1"));
        let list = format!("{host}X-Forwarded-For: 1.1.1.1, 192.0.2.1\n");
        assert_eq!(read("GET /envoy/", &list).as_deref(), Ok("GET api/ 192.0.2.1"));
        assert_eq!(read("GET /envoy/a", ""), Err(HOST_MISSING));
        assert_eq!(read("GET http://api/envoy/a", "Host: other\n"), Err(HOSTS_DIFFER));
        for (line, fields) in [
            ("GET /envoy", host),
            ("GET /envoy?a", host),
            ("GET /envoya", host),
            ("GET /envoy/a", "Host: a\nHost: a\n"),
        ] {
            assert!(read(line, fields).is_err(), "{line} {fields}");
        }
    }

    proptest! {
        #[test]
        fn url_and_uri_describe_the_same_request(host in "[a-z]{1,8}(:[0-9]{1,4})?", target in "/[!\"$-~]{0,20}") {
            let by_url = format!("X-Original-Method: GET\nX-Original-URL: https://{host}{target}\n");
            let by_uri = format!("X-Original-Method: GET\nX-Original-URI: {target}\nX-Original-Host: {host}\n");
            let by_url = read(Endpoint::Nginx, "GET /nginx", &by_url);
            prop_assert_eq!(&by_url, &Ok(format!("GET {host}{target} -")));
            prop_assert_eq!(by_url, read(Endpoint::Nginx, "GET /nginx", &by_uri));
        }
    }
}
