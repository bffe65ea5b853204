//! Responses to requests that pingora never sees.

use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use pingora::protocols::http::date::get_cached_date;

/// Serializes a response that ends the connection.
pub(super) fn closing_response(response: &Response<Bytes>) -> Bytes {
    own_response(response, response.body(), true)
}

/// Serializes a response with this body, which is empty for a response to HEAD. With `closes` it ends the connection.
pub(super) fn own_response(response: &Response<Bytes>, body: &[u8], closes: bool) -> Bytes {
    let status = response.status();
    let mut text = BytesMut::with_capacity(512 + body.len());
    text.put_slice(b"HTTP/1.1 ");
    text.put_slice(status.as_str().as_bytes());
    text.put_slice(b" ");
    text.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.put_slice(b"\r\n");
    for (name, value) in response.headers() {
        put_field(&mut text, name.as_str(), value.as_bytes());
    }
    put_field(&mut text, "date", get_cached_date().as_bytes());
    if closes {
        put_field(&mut text, "connection", b"close");
    }
    text.put_slice(b"\r\n");
    text.put_slice(body);
    text.freeze()
}

/// Writes a field. Names get the case that pingora gives to those of other responses.
fn put_field(text: &mut BytesMut, name: &str, value: &[u8]) {
    let mut is_start = true;
    for byte in name.bytes() {
        text.put_u8(if is_start { byte.to_ascii_uppercase() } else { byte });
        is_start = byte == b'-';
    }
    text.put_slice(b": ");
    text.put_slice(value);
    text.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_complete_and_closes_the_connection() {
        let response = Response::builder().status(431).header("content-length", 2).header("x-request-id", "a");
        let text = closing_response(&response.body(Bytes::from_static(b"{}")).unwrap());
        let text = String::from_utf8(text.to_vec()).unwrap();
        let (head, rest) = text.split_once("Date: ").unwrap();
        assert_eq!(head, "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 2\r\nX-Request-Id: a\r\n");
        assert!(rest.ends_with(" GMT\r\nConnection: close\r\n\r\n{}"), "{rest}");
    }
}
