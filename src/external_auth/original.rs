//! The request that a check is about, and how its parts are read from fields.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method};

use crate::pipeline::RequestHead;
use crate::wire::fields::{Fields, text};
use crate::wire::forwarded::last_entry;

/// Why a proxy's description of a request cannot be used; the text of a `request_invalid` rejection.
pub(super) type Invalid = &'static str;

const METHOD_INVALID: Invalid = "The method of the original request is not valid.";
const TARGET_INVALID: Invalid = "The path of the original request is missing or not valid.";
const HOST_MISSING: Invalid = "The host of the original request is missing.";
const DUPLICATE: Invalid = "A field that describes the original request occurs more than once.";
const UNREADABLE: Invalid = "A field that describes the original request is not readable.";

/// The request that a check is about. Its fields are those of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Original<'a> {
    method: Method,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    client_ip: Option<IpAddr>,
}

impl<'a> Original<'a> {
    /// A request from the texts of its method, host and target. The target is a path, and a query after `?`.
    pub(super) fn new(
        method: &str,
        host: &'a str,
        target: &'a str,
        client_ip: Option<IpAddr>,
    ) -> Result<Self, Invalid> {
        let method = method.parse().map_err(|_| METHOD_INVALID)?;
        if host.is_empty() {
            return Err(HOST_MISSING);
        }
        // A fragment is never sent, and servers disagree about what follows `#`.
        let is_target = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !target.starts_with('/') || !target.bytes().all(is_target) {
            return Err(TARGET_INVALID);
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Ok(Self { method, host, path, query, client_ip })
    }

    /// The head that the pipeline reads.
    pub(super) fn head<'h>(&'h self, fields: &'h HeaderMap) -> RequestHead<'h, HeaderMap> {
        RequestHead {
            method: &self.method,
            authority: Some(self.host),
            path: self.path,
            query: self.query,
            version: None,
            fields,
        }
    }

    /// The client's address, as far as the proxy says it.
    pub(super) fn client_ip(&self) -> Option<IpAddr> {
        self.client_ip
    }
}

/// The value of a field that occurs at most once. An empty value is none.
pub(super) fn single<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Result<Option<&'f str>, Invalid> {
    let mut values = fields.field_values(name);
    let value = values.next();
    if values.next().is_some() {
        return Err(DUPLICATE);
    }
    match value.map(text) {
        Some(Some(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
        Some(None) => Err(UNREADABLE),
        None => Ok(None),
    }
}

/// The address in a field; `None` for text that is none, such as `unix:`.
pub(super) fn address(value: &str) -> Option<IpAddr> {
    value.trim().parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The address that the sender of the check appended to a list: the last entry of the last field.
pub(super) fn last_address(fields: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    address(last_entry(fields, name).and_then(text)?)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        fields
    }

    const NAME: HeaderName = HeaderName::from_static("x-forwarded-for");

    #[test]
    fn target_is_a_path_and_a_query() {
        let fields = HeaderMap::new();
        for (target, path, query) in
            [("/", "/", None), ("/a?", "/a", Some("")), ("/a?b=/c?d", "/a", Some("b=/c?d")), ("//a%2F", "//a%2F", None)]
        {
            let original = Original::new("GET", "h", target, None).unwrap();
            let head = original.head(&fields);
            assert_eq!((head.authority, head.path, head.query), (Some("h"), path, query), "{target}");
        }
    }

    #[test]
    fn incomplete_and_ambiguous_requests_are_invalid() {
        for (method, host, target, why) in [
            ("", "h", "/", METHOD_INVALID),
            ("G T", "h", "/", METHOD_INVALID),
            ("GET", "", "/", HOST_MISSING),
            ("GET", "h", "", TARGET_INVALID),
            ("GET", "h", "*", TARGET_INVALID),
            ("GET", "h", "orders", TARGET_INVALID),
            ("GET", "h", "http://h/orders", TARGET_INVALID),
            ("GET", "h", "/a b", TARGET_INVALID),
            ("GET", "h", "/a#b", TARGET_INVALID),
            ("GET", "h", "/é", TARGET_INVALID),
        ] {
            assert_eq!(Original::new(method, host, target, None).unwrap_err(), why, "{method} {host} {target}");
        }
    }

    #[test]
    fn duplicates_are_invalid_and_empty_values_are_absent() {
        for (pairs, value) in [
            (&[][..], Ok(None)),
            (&[("x-forwarded-for", &b""[..])], Ok(None)),
            (&[("x-forwarded-for", b"a")], Ok(Some("a"))),
            (&[("x-forwarded-for", b"a"), ("x-forwarded-for", b"a")], Err(DUPLICATE)),
            (&[("x-forwarded-for", b""), ("x-forwarded-for", b"")], Err(DUPLICATE)),
            (&[("x-forwarded-for", b"\xff")], Err(UNREADABLE)),
        ] {
            assert_eq!(single(&fields(pairs), &NAME), value, "{pairs:?}");
        }
    }

    #[test]
    fn client_is_the_last_entry_of_the_last_field() {
        for (values, client) in [
            (&[&b"203.0.113.9"[..]][..], Some("203.0.113.9")),
            (&[b"1.1.1.1, 203.0.113.9"], Some("203.0.113.9")),
            (&[b"203.0.113.9", b"::ffff:192.0.2.1 "], Some("192.0.2.1")),
            (&[b"1.1.1.1,"], None),
            (&[b"1.1.1.1, unknown"], None),
            (&[b"1.1.1.1", b"\xff"], None),
            (&[], None),
        ] {
            let pairs: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let client = client.map(|client| client.parse().unwrap());
            assert_eq!(last_address(&fields(&pairs), &NAME), client, "{values:?}");
        }
    }
}
