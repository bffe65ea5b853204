//! The last segment of a path: a key id, or a key id and a custom verb (AIP-136), as in `{key_id}:revoke`.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn last_segment_is_decoded() {
        for (path, expected) in [("/a/b%3Arevoke?c/d", "b:revoke"), ("/a/%ff", "\u{fffd}"), ("/a/..%2Fb", "../b")] {
            let (mut parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            let Ok(LastSegment(segment)) = LastSegment::from_request_parts(&mut parts, &()).await;
            assert_eq!(segment, expected);
        }
    }
}
