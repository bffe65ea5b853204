//! Writes a head into memory of a known size.

use bytes::BytesMut;

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

    /// Writes a field line.
    #[inline]
    pub(super) fn put_field(&mut self, name: &str, value: &[u8]) {
        self.put(name.as_bytes());
        self.put(b": ");
        self.put(value);
        self.put(b"\r\n");
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
            writer.put(b"HTTP/1.1 200 OK\r\n");
            writer.put_field("Via", b"1.1 a");
            writer.put(b"");
            assert_eq!(writer.finish(), "HTTP/1.1 200 OK\r\nVia: 1.1 a\r\n", "{room}");
        }
    }
}
