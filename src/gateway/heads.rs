//! Messages' heads as pingora keeps them.
//!
//! pingora keeps the spelling of every name beside the fields, and with it each change of a field costs two tables, a copy of
//! the name and reading it again. A head that is edited is therefore taken apart, edited as plain fields, and put together
//! without that table: names that are sent on are then spelled as pingora spells them, which is the same to every reader
//! (RFC 9110 section 5.1).

use std::mem;

use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri, request, response};
use pingora::http::{RequestHeader, ResponseHeader};

/// Gives a request another target and changes its fields.
///
/// # Errors
/// When the target is none.
pub fn edit_request_head(
    head: &mut RequestHeader,
    target: &str,
    edit: impl FnOnce(&mut HeaderMap),
) -> pingora::Result<()> {
    let mut parts = request::Parts::from(mem::replace(head, Request::new(()).into_parts().0.into()));
    edit(&mut parts.headers);
    let is_there = is_target(&parts.uri, target);
    *head = parts.into();
    if is_there { Ok(()) } else { head.set_raw_path(target.as_bytes()) }
}

/// Changes an answer's fields.
///
/// # Errors
/// When its reason phrase cannot be kept.
pub fn edit_response_head(head: &mut ResponseHeader, edit: impl FnOnce(&mut HeaderMap)) -> pingora::Result<()> {
    let usual = head.status.canonical_reason();
    let own_phrase = head.get_reason_phrase().filter(|phrase| Some(*phrase) != usual).map(str::to_owned);
    let mut parts = response::Parts::from(mem::replace(head, Response::new(()).into_parts().0.into()));
    edit(&mut parts.headers);
    *head = parts.into();
    own_phrase.map_or(Ok(()), |phrase| head.set_reason_phrase(Some(&phrase)))
}

/// Whether a request has that target already, and in the form in which it goes to an upstream.
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
    fn a_request_keeps_what_is_not_edited() {
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
    fn an_answer_keeps_its_reason_phrase() {
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
