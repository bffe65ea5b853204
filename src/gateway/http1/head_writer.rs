//! Writes a head into memory of a known size.

use bytes::BytesMut;
use http::StatusCode;

use super::buffer_pool;

/// The bytes of a field line besides its name and its value.
pub(super) const SEPARATORS: usize = 4;

/// Bytes of a head that are written one after the other. Each part is one copy, without a check of how much is left of an allocation.
pub(super) struct HeadWriter {
    bytes: BytesMut,
    /// Where the next part begins.
    at: usize,
}

impl HeadWriter {
    /// A writer with room for `size` bytes. Parts beyond it are written as well, at the cost of another allocation.
    pub(super) fn with_capacity(size: usize) -> Self {
        Self::with_capacity_and_room(size, 0)
    }

    /// A writer with room for `size` bytes, and for this number of bytes that are added behind the head later, which are not zeroed.
    pub(super) fn with_capacity_and_room(size: usize, room: usize) -> Self {
        let mut bytes = buffer_pool::take(size + room);
        bytes.resize(size, 0);
        Self { bytes, at: 0 }
    }

    /// Writes a part.
    #[inline]
    pub(super) fn put(&mut self, part: &[u8]) {
        self.next(part.len()).copy_from_slice(part);
    }

    /// The next bytes, which are to be written.
    #[inline]
    fn next(&mut self, length: usize) -> &mut [u8] {
        let (start, end) = (self.at, self.at + length);
        if end > self.bytes.len() {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        self.at = end;
        &mut self.bytes[start..end]
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
        let line = self.next(name.len() + value.len() + SEPARATORS);
        let (name_part, rest) = line.split_at_mut(name.len());
        name_part.copy_from_slice(name.as_bytes());
        put_value(rest, value);
    }

    /// Writes what follows the name of a field.
    #[inline]
    pub(super) fn put_value(&mut self, value: &[u8]) {
        put_value(self.next(value.len() + SEPARATORS), value);
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

/// Writes what follows the name of a field to the rest of its line, which has exactly this size.
#[inline]
fn put_value(rest: &mut [u8], value: &[u8]) {
    let (colon, rest) = rest.split_at_mut(2);
    let (value_part, end) = rest.split_at_mut(value.len());
    colon.copy_from_slice(b": ");
    value_part.copy_from_slice(value);
    end.copy_from_slice(b"\r\n");
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

    #[test]
    fn room_behind_the_head_is_left() {
        let mut writer = HeadWriter::with_capacity_and_room(10, 1_000);
        writer.put_field("Via", b"1.1 a");
        let bytes = writer.finish();
        assert_eq!(bytes, "Via: 1.1 a\r\n");
        assert!(bytes.capacity() >= 1_000, "{}", bytes.capacity());
    }
}
