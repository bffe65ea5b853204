//! Parses a request head strictly and serializes the parsed fields. No received line is copied.

use bytes::{BufMut, Bytes, BytesMut};
use httparse::{Header, Request, Status};

use super::body::Body;
use super::error::HeadError;
use super::fields::FieldStorage;
use super::target::{Target, check_target, is_authority};
use crate::config::ListenerLimits;

/// Fields that end at this connection, besides those that are rewritten.
const DROPPED: [&str; 1] = ["http2-settings"];

/// A request head that is valid.
#[derive(Debug)]
pub(super) struct Head {
    /// The head, serialized.
    pub(super) bytes: Bytes,
    /// The framing of the body.
    pub(super) body: Body,
}

/// A request head that is valid, in the bytes that were received.
#[derive(Debug)]
pub(super) struct ParsedHead<'f, 'h> {
    pub(super) method: &'h str,
    target: Target<'h>,
    minor: u8,
    /// The authority of a target in absolute form.
    authority: Option<&'h [u8]>,
    pub(super) fields: &'f [Header<'h>],
    control: Control<'h>,
}

/// What the fields say about the connection and the body.
#[derive(Debug, Default)]
struct Control<'h> {
    host: Option<&'h [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    upgrade: Upgrade,
    has_expectation: bool,
    closes: bool,
}

/// The protocol to which a request upgrades its connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Upgrade {
    #[default]
    None,
    WebSocket,
    Other,
}

impl Head {
    /// Parses the bytes of a head, with its empty line.
    ///
    /// # Errors
    /// [`HeadError`].
    pub(super) fn parse(bytes: &[u8], limits: &ListenerLimits) -> Result<Self, HeadError> {
        let mut storage = FieldStorage::new();
        let head = ParsedHead::parse(bytes, &mut storage, limits)?;
        Ok(Self { bytes: head.serialize(bytes.len()), body: head.body() })
    }
}

impl<'f, 'h> ParsedHead<'f, 'h> {
    /// Parses the bytes of a head, with its empty line.
    ///
    /// # Errors
    /// [`HeadError`].
    pub(super) fn parse(
        bytes: &'h [u8],
        storage: &'f mut FieldStorage<'h>,
        limits: &ListenerLimits,
    ) -> Result<Self, HeadError> {
        let mut request = Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, storage.slots()) {
            Ok(Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(HeadError::RequestLine),
            Err(error) => return Err(parse_error(error, bytes)),
        }
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
            return Err(HeadError::RequestLine);
        };
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(HeadError::Method);
        }
        if target.len() > limits.target_bytes {
            return Err(HeadError::TargetTooLong);
        }
        let (authority, target) = check_target(method, target)?;
        let control = Control::read(request.headers, minor)?;
        control.check_host(authority, minor)?;
        Ok(Self { method, target, minor, authority, fields: request.headers, control })
    }

    /// The path and the query, if the request can be forwarded as it is: HTTP/1.1, a target in origin form of characters that every parser
    /// reads alike, no body or one of a known length, and nothing that the connection has to do besides.
    pub(super) fn plain_target(&self) -> Option<(&'h str, Option<&'h str>)> {
        let Control { is_chunked, upgrade, has_expectation, .. } = self.control;
        let needs_connection = is_chunked || has_expectation || upgrade != Upgrade::None;
        let is_plain = self.minor == 1 && !needs_connection && self.authority.is_none();
        if !is_plain || !self.target.is_plain {
            return None;
        }
        let target = self.target.rest;
        Some(target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query))))
    }

    /// The length of the body, if the client has named one.
    pub(super) fn length(&self) -> Option<u64> {
        self.control.length
    }

    /// Whether the request has the option `close`.
    pub(super) fn closes(&self) -> bool {
        self.control.closes
    }

    /// The framing of the body.
    pub(super) fn body(&self) -> Body {
        if self.control.is_chunked { Body::chunked() } else { Body::of_length(self.control.length.unwrap_or(0)) }
    }

    /// Writes the head with one space between parts, one line for each field, and one `Content-Length`. `size` is the size of the
    /// received head in bytes.
    pub(super) fn serialize(&self, size: usize) -> Bytes {
        let mut head = BytesMut::with_capacity(size + 16);
        let version = if self.minor == 0 { "HTTP/1.0" } else { "HTTP/1.1" };
        for part in [self.method, " ", self.target.root, self.target.rest, " ", version, "\r\n"] {
            head.put_slice(part.as_bytes());
        }
        if let Some(host) = self.authority.filter(|_| self.control.host.is_none()) {
            put_field(&mut head, "Host", host);
        }
        for field in self.fields {
            let is_dropped = match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => true,
                7 if field.name.eq_ignore_ascii_case("upgrade") => self.control.upgrade != Upgrade::WebSocket,
                _ => DROPPED.iter().any(|name| field.name.eq_ignore_ascii_case(name)),
            };
            if !is_dropped {
                put_field(&mut head, field.name, field.value);
            }
        }
        if let Some(length) = self.control.length {
            put_field(&mut head, "Content-Length", length.to_string().as_bytes());
        }
        head.put_slice(b"\r\n");
        head.freeze()
    }
}

impl<'h> Control<'h> {
    fn read(fields: &[Header<'h>], minor: u8) -> Result<Self, HeadError> {
        let mut control = Self::default();
        for field in fields {
            match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("host") => control.set_host(field.value)?,
                14 if field.name.eq_ignore_ascii_case("content-length") => control.set_length(field.value)?,
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    let is_valid = !control.is_chunked && minor == 1 && field.value.eq_ignore_ascii_case(b"chunked");
                    if !is_valid {
                        return Err(HeadError::TransferEncoding);
                    }
                    control.is_chunked = true;
                }
                7 if field.name.eq_ignore_ascii_case("upgrade") => {
                    let is_websocket = field.value.eq_ignore_ascii_case(b"websocket");
                    control.upgrade = if is_websocket { Upgrade::WebSocket } else { Upgrade::Other };
                }
                6 if field.name.eq_ignore_ascii_case("expect") => control.has_expectation = true,
                10 if field.name.eq_ignore_ascii_case("connection") => control.closes |= names_close(field.value),
                _ => {}
            }
        }
        if control.is_chunked && control.length.is_some() {
            return Err(HeadError::TransferEncoding);
        }
        let has_body = control.is_chunked || control.length.unwrap_or(0) > 0;
        if control.upgrade == Upgrade::WebSocket && (minor == 0 || has_body) {
            control.upgrade = Upgrade::Other;
        }
        Ok(control)
    }

    fn set_host(&mut self, value: &'h [u8]) -> Result<(), HeadError> {
        let previous = self.host.replace(value);
        if previous.is_none() { Ok(()) } else { Err(HeadError::Host) }
    }

    fn set_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let length = content_length(value).ok_or(HeadError::ContentLength)?;
        let previous = self.length.replace(length);
        if previous.is_none_or(|previous| previous == length) { Ok(()) } else { Err(HeadError::ContentLength) }
    }

    fn check_host(&self, authority: Option<&[u8]>, minor: u8) -> Result<(), HeadError> {
        let is_valid = match (self.host, authority) {
            (None, _) => minor == 0,
            (Some(host), None) => host.is_empty() || is_authority(host),
            (Some(host), Some(authority)) => host.eq_ignore_ascii_case(authority),
        };
        if is_valid { Ok(()) } else { Err(HeadError::Host) }
    }
}

/// Whether a value of `Connection` contains the option `close`.
fn names_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// The value of a `Content-Length` field: digits only, as a list if the values are equal (RFC 9110 section 8.6).
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let mut values = value.split(|byte| *byte == b',').map(|text| number(text.trim_ascii()));
    let first = values.next()??;
    values.all(|other| other == Some(first)).then_some(first)
}

/// A number of digits only.
fn number(text: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then_some(number)?.checked_mul(10)?.checked_add(digit.into())
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}

/// Writes a field line.
pub(super) fn put_field(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.put_slice(name.as_bytes());
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(b"\r\n");
}

fn parse_error(error: httparse::Error, bytes: &[u8]) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version if has_other_version(bytes) => HeadError::Version,
        // A control character in a field value may be reported as a wrong line end.
        httparse::Error::HeaderValue | httparse::Error::NewLine => HeadError::FieldValue,
        _ => HeadError::RequestLine,
    }
}

/// Whether the request line has three parts, and the last is a version that is well formed.
fn has_other_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests;
