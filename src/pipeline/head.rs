//! The borrowed view of a request head that the pipeline reads, and the target that it derives from it.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Uri, Version};

use super::path::NormalPath;
use crate::id::RequestId;
use crate::wire::Rejection;
use crate::wire::fields::{Fields, is_text, text};
use crate::wire::problem::X_REQUEST_ID;
use crate::wire::query::without_parameters;

/// A request head, as a front keeps it.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a, F> {
    /// The method.
    pub method: &'a Method,
    /// The authority of an absolute-form target or of `:authority`; `None` for a target in origin form.
    pub authority: Option<&'a str>,
    /// The path of the target, as received.
    pub path: &'a str,
    /// The query of the target, without the question mark.
    pub query: Option<&'a str>,
    /// The protocol that the client used; `None` if the front does not know it.
    pub version: Option<Version>,
    /// The fields.
    pub fields: &'a F,
}

/// The requested resource: host, normalized path and query, in one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_start: usize,
    path_end: usize,
}

impl<'a> RequestHead<'a, HeaderMap> {
    /// The view of a head in its `http` types.
    pub fn new(method: &'a Method, uri: &'a Uri, fields: &'a HeaderMap) -> Self {
        Self {
            method,
            authority: uri.authority().map(http::uri::Authority::as_str),
            path: uri.path(),
            query: uri.query(),
            version: None,
            fields,
        }
    }

    /// The same head with the protocol that the client used.
    #[must_use]
    pub fn version(self, version: Version) -> Self {
        Self { version: Some(version), ..self }
    }
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a, HeaderMap> {
    fn from(request: &'a Request<B>) -> Self {
        Self::new(request.method(), request.uri(), request.headers()).version(request.version())
    }
}

impl<'a, F: Fields> RequestHead<'a, F> {
    /// The host that the request names: the authority of its target, else its `Host` field (RFC 9112 section 3.2). Empty if it names
    /// none.
    ///
    /// # Errors
    /// [`Rejection::RequestInvalid`] for more than one `Host` field, or one with illegal characters.
    pub fn host(&self) -> Result<&'a str, Rejection> {
        let mut values = self.fields.field_values(&HOST);
        let value = values.next();
        if values.next().is_some() {
            return Err(Rejection::RequestInvalid("The request has more than one Host field."));
        }
        if let Some(authority) = self.authority {
            return Ok(authority);
        }
        match value.map(text) {
            Some(Some(host)) => Ok(host),
            Some(None) => Err(Rejection::RequestInvalid("The request's Host field is not readable.")),
            None => Ok(""),
        }
    }

    /// Fails as [`RequestHead::host`] does.
    pub(super) fn check_host(&self) -> Result<(), Rejection> {
        let mut values = self.fields.field_values(&HOST);
        match (values.next(), values.next()) {
            (None, _) => Ok(()),
            (Some(host), None) if self.authority.is_some() || is_text(host) => Ok(()),
            _ => self.host().map(drop),
        }
    }

    /// The client's request id, if it is well formed.
    pub fn request_id(&self) -> Option<RequestId> {
        self.fields.field_values(&X_REQUEST_ID).next().and_then(text).and_then(RequestId::sane)
    }
}

impl Target {
    /// The target with this host, path and query.
    pub fn new(host: &str, path: &NormalPath<'_>, query: Option<&str>) -> Self {
        let path = path.as_str();
        let length = host.len() + path.len() + query.map_or(0, |query| query.len() + 1);
        let mut text = String::with_capacity(length);
        text.push_str(host);
        text.push_str(path);
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        Self { text, path_start: host.len(), path_end: host.len() + path.len() }
    }

    /// The host, as the client sent it.
    pub fn host(&self) -> &str {
        &self.text[..self.path_start]
    }

    /// The normalized path.
    pub fn path(&self) -> &str {
        &self.text[self.path_start..self.path_end]
    }

    /// The query, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_end + 1..)
    }

    /// Removes the query parameters of these names.
    pub(super) fn strip_parameters(&mut self, names: &[Box<str>]) {
        if let Cow::Owned(stripped) = without_parameters(&self.text, names) {
            self.text = stripped;
        }
    }

    /// The path and query.
    pub fn path_and_query(&self) -> &str {
        &self.text[self.path_start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_consists_of_host_path_and_query() {
        for (query, forwarded) in [(None, "/a/b"), (Some(""), "/a/b?"), (Some("x=/y?"), "/a/b?x=/y?")] {
            let target = Target::new("h:1", &NormalPath::parse("/a//b").unwrap(), query);
            assert_eq!((target.host(), target.path(), target.path_and_query()), ("h:1", "/a/b", forwarded));
            assert_eq!(target.query(), query);
        }
    }

    #[test]
    fn parameters_are_removed_from_the_query_only() {
        for (path, query, left) in [("/k=1", "k=2&a=3", "/k=1?a=3"), ("/a", "%6b=1", "/a"), ("/a", "", "/a?")] {
            let mut target = Target::new("h", &NormalPath::parse(path).unwrap(), Some(query));
            target.strip_parameters(&["k".into()]);
            assert_eq!((target.host(), target.path(), target.path_and_query()), ("h", path, left));
        }
    }

    #[test]
    fn authority_takes_precedence_over_the_host_field() {
        for (uri, hosts, host) in [
            ("/a", &["h"][..], Some("h")),
            ("http://t:1/a", &["h"], Some("t:1")),
            ("/a", &[], Some("")),
            ("/a", &["h", "h"], None),
            ("http://t:1/a", &["h", "h"], None),
            ("/a", &["é"], None),
        ] {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(RequestHead::from(&request).host().ok(), host, "{uri} {hosts:?}");
        }
    }
}
