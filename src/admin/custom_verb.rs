//! The last segment of a path: a key id, or a key id and a custom verb (AIP-136), as in `{key_id}:revoke`.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request};
use http::Uri;
use http::request::Parts;
use percent_encoding::percent_decode_str;

/// The last segment, percent-decoded. Invalid UTF-8 becomes U+FFFD, which occurs in no key id.
pub(super) struct LastSegment(pub(super) String);

impl LastSegment {
    /// The key id and the custom verb; `None` without a verb.
    pub(super) fn split_verb(&self) -> Option<(&str, &str)> {
        self.0.rsplit_once(':')
    }
}

impl<S: Sync> FromRequestParts<S> for LastSegment {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let last = parts.uri.path().rsplit('/').next().unwrap_or_default();
        Ok(Self(percent_decode_str(last).decode_utf8_lossy().into_owned()))
    }
}

/// Decodes the colon of a custom verb, before the request is routed: the router compares segments as they were sent, and some clients
/// encode the colon.
pub(super) async fn decode_colon(mut request: Request) -> Request {
    if let Some(uri) = decoded(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// The URI with the encoded colons of its last segment decoded; `None` if it has none.
fn decoded(uri: &Uri) -> Option<Uri> {
    let (folder, last) = uri.path().rsplit_once('/')?;
    if !last.contains("%3A") && !last.contains("%3a") {
        return None;
    }
    let last = last.replace("%3A", ":").replace("%3a", ":");
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{folder}/{last}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_colon_is_decoded_in_the_last_segment_only() {
        for (path, expected) in [
            ("/v/apiKeys%3Averify", Some("/v/apiKeys:verify")),
            ("/v/apiKeys%3averify?a=%3A", Some("/v/apiKeys:verify?a=%3A")),
            ("/v/id%3Arotate", Some("/v/id:rotate")),
            ("http://h/v/id%3Arotate?x", Some("http://h/v/id:rotate?x")),
            ("/v/apiKeys%253Averify", None),
            ("/v%3Ax/apiKeys:verify", None),
            ("/v/apiKeys:verify?a=%3A", None),
        ] {
            let uri = decoded(&path.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(uri.as_deref(), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn last_segment_is_decoded() {
        for (path, expected) in [("/a/b%3Arevoke?c/d", "b:revoke"), ("/a/%ff", "\u{fffd}"), ("/a/..%2Fb", "../b")] {
            let (mut parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            let Ok(LastSegment(segment)) = LastSegment::from_request_parts(&mut parts, &()).await;
            assert_eq!(segment, expected);
        }
    }
}
