//! Parses the head of an upstream's response strictly.

use http::{Method, StatusCode};
use httparse::{Header, Response, Status};

use crate::gateway::http1::fields::FieldStorage;
use crate::gateway::http1::head::content_length;

/// The maximum size of a response head in bytes.
pub(super) const HEAD_MAX: usize = 256 * 1024;

/// A response head that is valid, in the bytes that were received.
#[derive(Debug)]
pub(super) struct ResponseHead<'f, 'h> {
    pub(super) status: StatusCode,
    /// The reason phrase, as received.
    pub(super) reason: &'h str,
    pub(super) fields: &'f [Header<'h>],
    pub(super) framing: Framing,
    /// The value of `Content-Length`.
    pub(super) length: Option<u64>,
    /// Whether the upstream keeps the connection open.
    pub(super) is_persistent: bool,
}

/// Where the body of a response ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// After this number of bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// At the end of the connection.
    UntilClose,
}

/// A head that is not complete, or not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unparsed {
    Incomplete,
    Malformed,
}

/// What the fields say about the connection and the body.
#[derive(Debug, Default)]
struct Control {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
}

impl<'f, 'h> ResponseHead<'f, 'h> {
    /// Parses the bytes that were received of the response to a request. Returns the head and its length.
    ///
    /// # Errors
    /// [`Unparsed`].
    pub(super) fn parse(
        bytes: &'h [u8],
        storage: &'f mut FieldStorage<'h>,
        method: &Method,
    ) -> Result<(Self, usize), Unparsed> {
        let mut response = Response::new(&mut []);
        let parsed =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, storage.slots());
        let length = match parsed {
            Ok(Status::Complete(length)) if length <= HEAD_MAX => length,
            Ok(Status::Partial) if bytes.len() < HEAD_MAX => return Err(Unparsed::Incomplete),
            _ => return Err(Unparsed::Malformed),
        };
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Unparsed::Malformed)?;
        let minor = response.version.unwrap_or_default();
        let control = Control::read(response.headers, minor)?;
        let head = Self {
            status,
            reason: response.reason.unwrap_or_default(),
            fields: response.headers,
            framing: control.framing(status, method),
            length: control.length,
            is_persistent: !control.closes && (minor == 1 || control.keeps_alive),
        };
        Ok((head, length))
    }
}

impl Control {
    fn read(fields: &[Header<'_>], minor: u8) -> Result<Self, Unparsed> {
        let mut control = Self::default();
        for field in fields {
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => control.set_length(field.value)?,
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    let is_valid = !control.is_chunked && minor == 1 && field.value.eq_ignore_ascii_case(b"chunked");
                    if !is_valid {
                        return Err(Unparsed::Malformed);
                    }
                    control.is_chunked = true;
                }
                10 if field.name.eq_ignore_ascii_case("connection") => control.add_options(field.value),
                _ => {}
            }
        }
        if control.is_chunked && control.length.is_some() { Err(Unparsed::Malformed) } else { Ok(control) }
    }

    fn set_length(&mut self, value: &[u8]) -> Result<(), Unparsed> {
        let length = content_length(value).ok_or(Unparsed::Malformed)?;
        let previous = self.length.replace(length);
        if previous.is_none_or(|previous| previous == length) { Ok(()) } else { Err(Unparsed::Malformed) }
    }

    fn add_options(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn framing(&self, status: StatusCode, method: &Method) -> Framing {
        let is_bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || method == Method::HEAD;
        match (is_bodiless, self.is_chunked, self.length) {
            (true, _, _) | (false, false, Some(0)) => Framing::None,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => Framing::UntilClose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, method: &Method) -> Result<(u16, Framing, bool, usize), Unparsed> {
        let mut storage = FieldStorage::new();
        let (head, length) = ResponseHead::parse(text.as_bytes(), &mut storage, method)?;
        Ok((head.status.as_u16(), head.framing, head.is_persistent, length))
    }

    #[test]
    fn body_ends_where_the_head_says() {
        for (fields, method, framing, is_persistent) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", Method::GET, Framing::Length(3), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\ncontent-length: 3\r\n", Method::GET, Framing::Length(3), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Method::GET, Framing::None, true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", Method::HEAD, Framing::None, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", Method::GET, Framing::Chunked, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n", Method::GET, Framing::None, true),
            ("HTTP/1.1 204\r\nConnection: X, Close\r\n", Method::GET, Framing::None, false),
            ("HTTP/1.1 103 Early Hints\r\n", Method::GET, Framing::None, true),
            ("HTTP/1.1 200 \r\n", Method::GET, Framing::UntilClose, true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n", Method::GET, Framing::Length(3), false),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n",
                Method::GET,
                Framing::Length(3),
                true,
            ),
        ] {
            let (_, found, persistent, length) = parse(&format!("{fields}\r\nabc"), &method).unwrap();
            assert_eq!((found, persistent, length), (framing, is_persistent, fields.len() + 2), "{fields}");
        }
    }

    #[test]
    fn malformed_heads_are_rejected() {
        for fields in [
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n",
            "HTTP/1.1 99 Low\r\n",
            "HTTP/2.0 200 OK\r\n",
            "SSH-2.0-server\r\n",
        ] {
            assert_eq!(parse(&format!("{fields}\r\n"), &Method::GET), Err(Unparsed::Malformed), "{fields}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_MAX));
        assert_eq!(parse(&long, &Method::GET), Err(Unparsed::Malformed));
    }

    #[test]
    fn part_of_a_head_is_incomplete() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end], &Method::GET), Err(Unparsed::Incomplete), "{end}");
        }
    }
}
