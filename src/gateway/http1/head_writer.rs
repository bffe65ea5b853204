//! Writes a head into memory of a known size.

use bytes::BytesMut;
use http::StatusCode;

/// Bytes of a head that are written one after the other. Each part is one copy, without a check of how much is left of an allocation.
pub(super) struct HeadWriter {
    bytes: BytesMut,
    /// Where the next part begins.
    at: usize,
}

impl HeadWriter {
    /// A writer with room for `size` bytes. Parts beyond it are written as well, at the cost of another allocation.
    pub(super) fn with_capacity(size: usize) -> Self {
        Self { bytes: BytesMut::zeroed(size), at: 0 }
    }

    /// Writes a part.
    #[inline]
    pub(super) fn put(&mut self, part: &[u8]) {
        let end = self.at + part.len();
        if end > self.bytes.len() {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        self.bytes[self.at..end].copy_from_slice(part);
        self.at = end;
    }

    /// Writes the first line of a response.
    pub(super) fn put_status_line(&mut self, status: StatusCode, reason: &str) {
        for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
            self.put(part.as_bytes());
        }
    }

    /// Writes a field line.
    #[inline]
    pub(super) fn put_field(&mut self, name: &str, value: &[u8]) {
        self.put(name.as_bytes());
        self.put_value(value);
    }

    /// Writes what follows the name of a field.
    #[inline]
    pub(super) fn put_value(&mut self, value: &[u8]) {
        self.put(b": ");
        self.put(value);
        self.put(b"\r\n");
    }

    /// Writes a name in lower case with its words capitalized, as in `Content-Length`.
    pub(super) fn put_title_case(&mut self, name: &str) {
        let start = self.at;
        self.put(name.as_bytes());
        let mut begins_word = true;
        for byte in &mut self.bytes[start..self.at] {
            if begins_word {
                byte.make_ascii_uppercase();
            }
            begins_word = *byte == b'-';
        }
    }

    /// What was written.
    pub(super) fn finish(mut self) -> BytesMut {
        self.bytes.truncate(self.at);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_in_any_room() {
        for room in [0, 1, 10, 100] {
            let mut writer = HeadWriter::with_capacity(room);
            writer.put_status_line(StatusCode::OK, "OK");
            writer.put_field("Via", b"1.1 a");
            writer.put(b"");
            writer.put_title_case("x-request-id");
            writer.put_value(b"b-c");
            assert_eq!(writer.finish(), "HTTP/1.1 200 OK\r\nVia: 1.1 a\r\nX-Request-Id: b-c\r\n", "{room}");
        }
    }
}
