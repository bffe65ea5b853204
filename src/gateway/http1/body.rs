//! The framing of a request body (RFC 9112 sections 6 and 7.1), checked while the bytes pass.

use std::io;

/// The maximum size of the extensions of one chunk, in bytes.
const EXTENSION_MAX: usize = 4 * 1024;
/// The maximum size of the trailer section, in bytes.
const TRAILERS_MAX: usize = 16 * 1024;
/// The maximum number of digits of a chunk size.
const SIZE_DIGITS_MAX: u8 = 16;

/// Finds the end of a body in the bytes of a connection, and removes what is not forwarded: chunk extensions and trailers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// The number of bytes that are left.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Everything was received.
    Done,
}

/// A position in a chunked body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the digits of a size.
    Size { digits: u8, size: u64 },
    /// In the extensions of a chunk; the number of their bytes so far.
    Extension { size: u64, length: usize },
    /// Before the line feed after a size.
    SizeEnd { size: u64 },
    /// In the data; the number of bytes that are left.
    Data(u64),
    /// Before the carriage return after the data.
    DataReturn,
    /// Before the line feed after the data.
    DataEnd,
    /// At the start of a trailer line or of the empty line at the end.
    LineStart { length: usize },
    /// In a trailer line.
    Line { length: usize },
    /// Before the line feed of a trailer line.
    LineEnd { length: usize },
    /// Before the last line feed.
    End,
}

/// The result of [`Body::filter`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Filtered {
    /// How many bytes at the start are the body, as it is forwarded.
    pub(super) kept: usize,
    /// How many bytes of the input belonged to the body. The bytes after them are the client's next request, unchanged.
    pub(super) consumed: usize,
    /// How many bytes are the content of the body.
    pub(super) payload: usize,
}

/// What happens to a byte outside of chunk data.
enum Step {
    Keep(Chunk),
    Remove(Chunk),
    Last,
}

impl Body {
    /// A body with this number of bytes.
    pub(super) fn of_length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// A chunked body.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunk::Size { digits: 0, size: 0 })
    }

    /// Whether everything was received.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Reads the next bytes of the connection and moves those that are forwarded to the front.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a body that is not chunked correctly.
    pub(super) fn filter(&mut self, bytes: &mut [u8]) -> io::Result<Filtered> {
        match self {
            Self::Done => Ok(Filtered::default()),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *self = Self::of_length(*left - taken as u64);
                Ok(Filtered { kept: taken, consumed: taken, payload: taken })
            }
            Self::Chunked(_) => self.filter_chunks(bytes),
        }
    }

    fn filter_chunks(&mut self, bytes: &mut [u8]) -> io::Result<Filtered> {
        let mut at = Filtered::default();
        while let Self::Chunked(chunk) = self
            && at.consumed < bytes.len()
        {
            if let Chunk::Data(left) = chunk {
                let available = bytes.len() - at.consumed;
                let taken = available.min(usize::try_from(*left).unwrap_or(usize::MAX));
                bytes.copy_within(at.consumed..at.consumed + taken, at.kept);
                *left -= taken as u64;
                if *left == 0 {
                    *chunk = Chunk::DataReturn;
                }
                at.kept += taken;
                at.consumed += taken;
                at.payload += taken;
                continue;
            }
            let byte = bytes[at.consumed];
            at.consumed += 1;
            let (next, is_kept) = match chunk.step(byte)? {
                Step::Keep(next) => (Self::Chunked(next), true),
                Step::Remove(next) => (Self::Chunked(next), false),
                Step::Last => (Self::Done, true),
            };
            *self = next;
            if is_kept {
                bytes[at.kept] = byte;
                at.kept += 1;
            }
        }
        Ok(at)
    }
}

impl Chunk {
    fn step(&self, byte: u8) -> io::Result<Step> {
        Ok(match (self, byte) {
            (Self::Size { digits, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if *digits == SIZE_DIGITS_MAX => {
                return Err(invalid("a chunk size has too many digits"));
            }
            (Self::Size { digits, size }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                // 16 digits fit, because a digit has four bits.
                Step::Keep(Self::Size { digits: digits + 1, size: (size << 4) | u64::from(digit) })
            }
            (Self::Size { digits: 1.., size } | Self::Extension { size, .. }, b'\r') => {
                Step::Keep(Self::SizeEnd { size: *size })
            }
            (Self::Size { digits: 1.., size }, b';') => Step::Remove(Self::Extension { size: *size, length: 1 }),
            (Self::Extension { size, length: length @ 0..EXTENSION_MAX }, b'\t' | b' '..=b'~' | 0x80..) => {
                Step::Remove(Self::Extension { size: *size, length: length + 1 })
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Step::Keep(Self::LineStart { length: 0 }),
            (Self::SizeEnd { size }, b'\n') => Step::Keep(Self::Data(*size)),
            (Self::DataReturn, b'\r') => Step::Keep(Self::DataEnd),
            (Self::DataEnd, b'\n') => Step::Keep(Self::Size { digits: 0, size: 0 }),
            (Self::LineStart { .. }, b'\r') => Step::Keep(Self::End),
            (Self::Line { length }, b'\r') => Step::Remove(Self::LineEnd { length: *length }),
            (Self::LineStart { length } | Self::Line { length }, b'\t' | b' '..=b'~' | 0x80..)
                if *length < TRAILERS_MAX =>
            {
                Step::Remove(Self::Line { length: length + 1 })
            }
            (Self::LineEnd { length }, b'\n') => Step::Remove(Self::LineStart { length: *length }),
            (Self::End, b'\n') => Step::Last,
            _ => return Err(invalid("the body is not chunked correctly")),
        })
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Filters an input in pieces of the given sizes. Returns what is forwarded and what is left, or the error.
    fn filter(mut body: Body, input: &[u8], sizes: &[usize]) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
        let (mut kept, mut rest) = (Vec::new(), input.to_vec());
        let mut sizes = sizes.iter().copied().cycle();
        while !rest.is_empty() && !body.is_done() {
            let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len());
            let mut piece: Vec<u8> = rest.drain(..size).collect();
            let filtered = body.filter(&mut piece)?;
            kept.extend_from_slice(&piece[..filtered.kept]);
            rest.splice(..0, piece[filtered.consumed..].iter().copied());
        }
        Ok((kept, rest, body.is_done()))
    }

    #[test]
    fn body_ends_where_its_framing_says() {
        for (body, input, kept, rest) in [
            (Body::of_length(3), &b"abcGET"[..], &b"abc"[..], &b"GET"[..]),
            (Body::of_length(0), b"GET", b"", b"GET"),
            (Body::chunked(), b"0\r\n\r\nGET", b"0\r\n\r\n", b"GET"),
            (Body::chunked(), b"3\r\nabc\r\n0\r\n\r\nGET", b"3\r\nabc\r\n0\r\n\r\n", b"GET"),
            (Body::chunked(), b"3;a=\"b\"\r\nabc\r\n0;x\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b""),
            (
                Body::chunked(),
                b"00A\r\n0123456789\r\n0\r\nA: b\r\nC: d\r\n\r\nG",
                b"00A\r\n0123456789\r\n0\r\n\r\n",
                b"G",
            ),
        ] {
            for sizes in [&[usize::MAX][..], &[1], &[2, 3]] {
                let result = filter(body.clone(), input, sizes).unwrap();
                assert_eq!(result, (kept.to_vec(), rest.to_vec(), true), "{input:?} {sizes:?}");
            }
        }
    }

    #[test]
    fn wrong_chunks_are_rejected() {
        let long = [b"3;".to_vec(), vec![b'a'; EXTENSION_MAX + 1], b"\r\nabc".to_vec()].concat();
        let trailers = [b"0\r\n".to_vec(), vec![b'a'; TRAILERS_MAX + 1]].concat();
        for input in [
            &b"\r\n"[..],
            b";a\r\n",
            b" 3\r\n",
            b"3 \r\n",
            b"+3\r\n",
            b"0x3\r\n",
            b"3\nabc",
            b"3\r\r\n",
            b"3;a\n",
            b"3;\0\r\n",
            b"3\r\nabcd",
            b"3\r\nabc\n",
            b"3\r\nabc\r\r",
            b"0\r\n\n",
            b"0\r\nA: b\n",
            b"0\r\nA\rb",
            b"0\r\n\r\r",
            b"11111111111111111\r\n",
            b"-1\r\n",
            b"g\r\n",
            &long,
            &trailers,
        ] {
            let error = filter(Body::chunked(), input, &[usize::MAX]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..40),
            sizes in prop::collection::vec(1_usize..20, 1..8),
        ) {
            let mut plain = Vec::new();
            let mut input = Vec::new();
            for chunk in &chunks {
                plain.extend([format!("{:x}\r\n", chunk.len()).into_bytes(), chunk.clone(), b"\r\n".to_vec()].concat());
                input.extend([format!("{:x};e\r\n", chunk.len()).into_bytes(), chunk.clone(), b"\r\n".to_vec()].concat());
            }
            plain.extend(b"0\r\n\r\n");
            input.extend(b"0\r\nTrailer: x\r\n\r\n");
            input.extend(&rest);
            prop_assert_eq!(filter(Body::chunked(), &input, &sizes).unwrap(), (plain, rest, true));
        }

        #[test]
        fn nothing_panics(input in prop::collection::vec(any::<u8>(), 0..80), sizes in prop::collection::vec(1_usize..9, 1..4)) {
            let _ = filter(Body::chunked(), &input, &sizes);
        }
    }
}
