//! Responses to requests that pingora never sees.

use bytes::{Bytes, BytesMut};
use http::Response;
use pingora::protocols::http::date::get_cached_date;

use super::head_writer::HeadWriter;

/// Room for the status line, the fields and their separators: enough for the responses of this process.
const HEAD: usize = 768;

/// Serializes a response that ends the connection.
pub(super) fn closing_response(response: &Response<Bytes>) -> Bytes {
    own_response(response, response.body(), true).freeze()
}

/// Serializes a response with this body, which is empty for a response to HEAD. With `closes` it ends the connection. Names get the case
/// that pingora gives to those of other responses.
pub(super) fn own_response(response: &Response<Bytes>, body: &[u8], closes: bool) -> BytesMut {
    let mut out = HeadWriter::with_capacity(HEAD + body.len());
    let status = response.status();
    out.put_status_line(status, status.canonical_reason().unwrap_or_default());
    for (name, value) in response.headers() {
        out.put_title_case(name.as_str());
        out.put_value(value.as_bytes());
    }
    out.put_field("Date", get_cached_date().as_bytes());
    if closes {
        out.put_field("Connection", b"close");
    }
    out.put(b"\r\n");
    out.put(body);
    out.finish()
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
