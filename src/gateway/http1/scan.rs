//! Finds the end of a request head in the bytes that have arrived, within the limits of its listener.

use memchr::memchr_iter;

use super::error::HeadError;
use crate::config::ListenerLimits;

/// The longest method, the version and the blanks of a request line, in bytes.
const LINE_REST_MAX: usize = 64;
/// How many empty lines before a request line are ignored (RFC 9112 section 2.2).
const EMPTY_LINES_MAX: usize = 1;

/// The position of a search. Bytes are searched once, however they arrive.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// How many bytes were searched.
    scanned: usize,
    /// Where the current line starts.
    line: usize,
    /// Where the request line starts.
    start: usize,
    /// Complete lines after the empty ones at the start.
    lines: usize,
}

/// Where a head is in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadSpan {
    pub(super) start: usize,
    /// After the empty line.
    pub(super) end: usize,
}

impl HeadScan {
    /// Searches the bytes that have been added. `None` if the head is not complete.
    ///
    /// # Errors
    /// [`HeadError`] for a head that exceeds a limit or whose lines do not end with CR LF.
    pub(super) fn find(&mut self, bytes: &[u8], limits: &ListenerLimits) -> Result<Option<HeadSpan>, HeadError> {
        for offset in memchr_iter(b'\n', &bytes[self.scanned..]) {
            let end = self.scanned + offset;
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(HeadError::LineEnd);
            }
            let is_empty = end - 1 == self.line;
            self.line = end + 1;
            if is_empty && self.lines > 0 {
                self.check_size(end + 1, limits)?;
                return Ok(Some(HeadSpan { start: self.start, end: end + 1 }));
            }
            if is_empty {
                self.start = end + 1;
                if self.start > EMPTY_LINES_MAX * 2 {
                    return Err(HeadError::RequestLine);
                }
                continue;
            }
            if self.lines == 0 {
                check_line(end - self.start, limits)?;
            }
            self.lines += 1;
            if self.lines > limits.head_fields + 1 {
                return Err(HeadError::TooManyFields);
            }
        }
        self.scanned = bytes.len();
        if self.lines == 0 {
            check_line(bytes.len() - self.start, limits)?;
        }
        self.check_size(bytes.len(), limits)?;
        Ok(None)
    }

    fn check_size(&self, end: usize, limits: &ListenerLimits) -> Result<(), HeadError> {
        if end - self.start > limits.head_bytes { Err(HeadError::TooLarge) } else { Ok(()) }
    }
}

fn check_line(length: usize, limits: &ListenerLimits) -> Result<(), HeadError> {
    if length > limits.target_bytes + LINE_REST_MAX { Err(HeadError::TargetTooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ListenerLimits {
        ListenerLimits { head_bytes: 200, head_fields: 3, target_bytes: 20, ..ListenerLimits::default() }
    }

    /// Searches a head that arrives in pieces of `size` bytes.
    fn find(input: &[u8], size: usize) -> Result<Option<HeadSpan>, HeadError> {
        let mut scan = HeadScan::default();
        let mut end = 0;
        loop {
            end = (end + size).min(input.len());
            match scan.find(&input[..end], &limits())? {
                None if end < input.len() => {}
                found => return Ok(found),
            }
        }
    }

    #[test]
    fn head_ends_at_the_empty_line() {
        for (input, span) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"[..], Some((0, 27))),
            (b"\r\nGET / HTTP/1.1\r\n\r\n", Some((2, 20))),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r", None),
            (b"", None),
        ] {
            for size in [1, 2, 7, usize::MAX / 2] {
                let expected = span.map(|(start, end)| HeadSpan { start, end });
                assert_eq!(find(input, size).unwrap(), expected, "{input:?}");
            }
        }
    }

    #[test]
    fn limits_and_line_ends_are_enforced() {
        let long = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 200]].concat();
        let target = [b"GET /".to_vec(), vec![b'a'; 100]].concat();
        for (input, error) in [
            (&b"GET / HTTP/1.1\nHost: a\n\n"[..], HeadError::LineEnd),
            (b"\n", HeadError::LineEnd),
            (b"GET / HTTP/1.1\r\nA: b\n", HeadError::LineEnd),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", HeadError::RequestLine),
            (b"GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\nA: 3\r\nA: 4\r\n", HeadError::TooManyFields),
            (&long, HeadError::TooLarge),
            (&target, HeadError::TargetTooLong),
        ] {
            for size in [1, 3, usize::MAX / 2] {
                assert_eq!(find(input, size), Err(error), "{}", String::from_utf8_lossy(input));
            }
        }
    }
}
