//! The last segment of a path, which names a key: any text, as long as it is one.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use percent_encoding::percent_decode_str;

/// The last segment, decoded. What is not UTF-8 in it becomes U+FFFD: the id of no key, like any other unknown text.
pub(super) struct Segment(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Segment {
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
    async fn any_path_has_a_last_segment() {
        for (path, expected) in [("/a/b%3Arevoke?c/d", "b:revoke"), ("/a/%ff", "\u{fffd}"), ("/a/..%2Fb", "../b")] {
            let (mut parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            let Ok(Segment(segment)) = Segment::from_request_parts(&mut parts, &()).await;
            assert_eq!(segment, expected);
        }
    }
}
