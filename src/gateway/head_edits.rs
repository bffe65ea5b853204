//! Edits of message heads in pingora's types.
//!
//! pingora stores the case of every name beside the fields, so each change of a field updates two tables and copies the name. A head
//! is therefore taken apart, edited as a plain [`HeaderMap`], and put together without that table. Forwarded names have the case that
//! pingora gives them; field names are case-insensitive (RFC 9110 section 5.1).

use std::mem;

use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri, request, response};
use pingora::http::{RequestHeader, ResponseHeader};

/// Replaces the target of a request head and edits its fields.
///
/// # Errors
/// When the target is invalid.
pub fn edit_request_head(
    head: &mut RequestHeader,
    target: &str,
    edit: impl FnOnce(&mut HeaderMap),
) -> pingora::Result<()> {
    let mut parts = request::Parts::from(mem::replace(head, Request::new(()).into_parts().0.into()));
    edit(&mut parts.headers);
    let is_unchanged = is_target(&parts.uri, target);
    *head = parts.into();
    if is_unchanged { Ok(()) } else { head.set_raw_path(target.as_bytes()) }
}

/// Edits the fields of a response head.
///
/// # Errors
/// When the reason phrase is invalid.
pub fn edit_response_head(head: &mut ResponseHeader, edit: impl FnOnce(&mut HeaderMap)) -> pingora::Result<()> {
    let canonical = head.status.canonical_reason();
    let custom_phrase = head.get_reason_phrase().filter(|phrase| Some(*phrase) != canonical).map(str::to_owned);
    let mut parts = response::Parts::from(mem::replace(head, Response::new(()).into_parts().0.into()));
    edit(&mut parts.headers);
    *head = parts.into();
    custom_phrase.map_or(Ok(()), |phrase| head.set_reason_phrase(Some(&phrase)))
}

/// Whether a request has this target already, in origin form.
fn is_target(uri: &Uri, target: &str) -> bool {
    uri.authority().is_none() && uri.path_and_query().map(PathAndQuery::as_str) == Some(target)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method, StatusCode, Version};

    use super::*;

    fn wire(head: &RequestHeader) -> String {
        let mut text = head.raw_path().to_vec();
        text.push(b'\n');
        head.header_to_h1_wire(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn add(fields: &mut HeaderMap) {
        fields.insert("x-added", HeaderValue::from_static("1"));
    }

    #[test]
    fn request_keeps_what_is_not_edited() {
        for (before, target, after) in [
            (&b"/a/b?q=1"[..], "/a/b?q=1", "/a/b?q=1"),
            (b"/a//b", "/a/b", "/a/b"),
            (b"/a\xff", "/a\u{fffd}", "/a\u{fffd}"),
            (b"http://api.example.com/a", "/a", "/a"),
            (b"*", "*", "*"),
        ] {
            let mut head = RequestHeader::build(Method::PUT, before, None).unwrap();
            head.set_version(Version::HTTP_11);
            head.append_header("Content-Type", "a/b").unwrap();
            head.append_header("X-Own", "1").unwrap();
            head.append_header("x-oWN", "2").unwrap();
            edit_request_head(&mut head, target, add).unwrap();
            assert_eq!((&head.method, head.version), (&Method::PUT, Version::HTTP_11));
            let fields = "Content-Type: a/b\r\nx-own: 1\r\nx-own: 2\r\nx-added: 1\r\n";
            assert_eq!(wire(&head), format!("{after}\n{fields}"), "{before:?}");
        }
    }

    #[test]
    fn response_keeps_its_reason_phrase() {
        for (phrase, shown) in [(None, "OK"), (Some("OK"), "OK"), (Some("Fine"), "Fine"), (Some(""), "")] {
            let mut head = ResponseHeader::build(StatusCode::OK, None).unwrap();
            head.set_reason_phrase(phrase).unwrap();
            head.append_header("ETag", "1").unwrap();
            edit_response_head(&mut head, add).unwrap();
            assert_eq!((head.status, head.get_reason_phrase()), (StatusCode::OK, Some(shown)));
            assert_eq!(
                (&head.headers["etag"], &head.headers["x-added"]),
                (&HeaderValue::from(1), &HeaderValue::from(1))
            );
        }
    }
}
