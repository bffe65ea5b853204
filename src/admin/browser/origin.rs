//! Which web site made a request, by the fields that browsers set and scripts cannot (Fetch standard, Fetch Metadata).

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The web site that made a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Site<'a> {
    /// The request is not from a browser.
    NotABrowser,
    /// The person at the browser, or a page of this listener.
    Same,
    /// A page of another site, with its origin if the browser sends it.
    Other(Option<&'a HeaderValue>),
}

impl<'a> Site<'a> {
    /// Reads the fields of a request.
    pub(in crate::admin) fn of(headers: &'a HeaderMap) -> Self {
        let origin = headers.get(ORIGIN);
        let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
        let is_foreign = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
            || origin.is_some_and(|origin| !is_own(origin, headers));
        if is_foreign {
            Self::Other(origin)
        } else if origin.is_some() || site.is_some() || headers.contains_key(SEC_FETCH_MODE) {
            Self::Same
        } else {
            Self::NotABrowser
        }
    }
}

/// Whether an origin has the host and the port of the request. The scheme is not compared: TLS may end in front of this listener.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(fields: &[(&'static str, &'static str)]) -> String {
        let headers = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect::<HeaderMap>();
        match Site::of(&headers) {
            Site::NotABrowser => "none".into(),
            Site::Same => "same".into(),
            Site::Other(origin) => format!("other {}", origin.map_or("?", |origin| origin.to_str().unwrap())),
        }
    }

    #[test]
    fn site_is_that_of_the_origin_and_of_the_fetch_metadata() {
        const HOST: (&str, &str) = ("host", "127.0.0.1:4420");
        for (fields, expected) in [
            (&[HOST][..], "none"),
            (&[HOST, ("origin", "http://127.0.0.1:4420")], "same"),
            (&[HOST, ("origin", "https://127.0.0.1:4420")], "same"),
            (&[HOST, ("sec-fetch-site", "none")], "same"),
            (&[HOST, ("sec-fetch-site", "same-origin")], "same"),
            (&[HOST, ("sec-fetch-mode", "cors")], "same"),
            (&[HOST, ("origin", "http://127.0.0.1:80")], "other http://127.0.0.1:80"),
            (&[HOST, ("origin", "null")], "other null"),
            (&[HOST, ("sec-fetch-site", "same-site")], "other ?"),
            (&[HOST, ("sec-fetch-site", "cross-site")], "other ?"),
            (&[HOST, ("sec-fetch-site", "something-new")], "other ?"),
            (
                &[HOST, ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
                "other https://evil.example",
            ),
            (&[("origin", "https://evil.example")], "other https://evil.example"),
        ] {
            assert_eq!(site(fields), expected, "{fields:?}");
        }
    }
}
