//! Where the frames of a live stream end in what is written to its client: WebSocket frames (RFC 6455 section 5.2) and chunks (RFC 9112
//! section 7.1). Between two frames the gateway can end the stream with a frame of its own.

use crate::gateway::request_state::Framing;

/// The maximum size of the header of a WebSocket frame in bytes.
const WEBSOCKET_HEADER_MAX: usize = 14;
/// The code of a close frame with its FIN bit.
const CLOSE: u8 = 0x88;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
/// The status code of a close frame: the peer violates the policy of this endpoint (RFC 6455 section 7.4.1).
const POLICY_VIOLATION: u16 = 1008;
/// The status code of a close frame: this endpoint is going away.
const GOING_AWAY: u16 = 1001;
/// The last chunk, and the end of a trailer section without fields.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The position in the output of a live stream.
#[derive(Debug, Clone)]
pub(super) enum ResponseFrames {
    WebSocket(WebSocketFrames),
    Chunks(Chunks),
}

/// The position in WebSocket frames.
#[derive(Debug, Clone, Default)]
pub(super) struct WebSocketFrames {
    header: [u8; WEBSOCKET_HEADER_MAX],
    /// How many bytes of the header were written; none between two frames.
    filled: usize,
    /// How many bytes of the payload are left.
    payload: u64,
    is_closed: bool,
}

/// The position in chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks {
    size: u64,
    /// How many bytes of the data and of the line end after it are left.
    left: u64,
    /// Whether a part of a size line was written.
    is_in_line: bool,
    is_last: bool,
}

impl ResponseFrames {
    /// Frames of this kind, before the first one.
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::WebSocket => Self::WebSocket(WebSocketFrames::default()),
            Framing::Chunks => Self::Chunks(Chunks::default()),
        }
    }

    /// Whether the output is between two frames.
    pub(super) fn is_at_boundary(&self) -> bool {
        match self {
            Self::WebSocket(frames) => frames.filled == 0,
            Self::Chunks(chunks) => chunks.left == 0 && !chunks.is_in_line,
        }
    }

    /// Goes on by written bytes.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = self.advance_frame(bytes);
            bytes = &bytes[length..];
        }
    }

    /// How many bytes at the start belong to the frame that was begun; none between two frames.
    pub(super) fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        if self.is_at_boundary() { 0 } else { self.clone().advance_frame(bytes) }
    }

    /// What ends the stream. `None` if the server has ended it, or within a frame.
    pub(super) fn last_frame(&self, is_denial: bool, reason: &str) -> Option<Vec<u8>> {
        if !self.is_at_boundary() {
            return None;
        }
        match self {
            Self::WebSocket(frames) if !frames.is_closed => Some(close_frame(is_denial, reason)),
            Self::Chunks(chunks) if !chunks.is_last => Some(LAST_CHUNK.to_vec()),
            Self::WebSocket(_) | Self::Chunks(_) => None,
        }
    }

    /// Goes on by bytes up to the end of the frame. Returns their number, at least one.
    fn advance_frame(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::WebSocket(frames) => frames.advance_frame(bytes),
            Self::Chunks(chunks) => chunks.advance_frame(bytes),
        }
    }
}

impl WebSocketFrames {
    fn advance_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.payload > 0 {
                let taken = (bytes.len() - at).min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= taken as u64;
                at += taken;
            } else {
                self.header[self.filled] = bytes[at];
                self.filled += 1;
                at += 1;
                if self.filled < self.header_length() {
                    continue;
                }
                self.payload = self.payload_length();
                self.is_closed |= self.header[0] & OPCODE == CLOSE & OPCODE;
            }
            if self.payload == 0 {
                self.filled = 0;
                return at;
            }
        }
        at
    }

    /// The length of the header as far as it is known.
    fn header_length(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let extended = match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & MASKED == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        match self.header[1] & !MASKED {
            126 => number(&self.header[2..4]),
            127 => number(&self.header[2..10]),
            length => u64::from(length),
        }
    }
}

impl Chunks {
    fn advance_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let taken = (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= taken as u64;
                at += taken;
                if self.left == 0 {
                    return at;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            self.is_in_line = byte != b'\n';
            match char::from(byte).to_digit(16) {
                Some(digit) => self.size = (self.size << 4) | u64::from(digit),
                None if byte == b'\n' => {
                    let size = std::mem::take(&mut self.size);
                    self.is_last |= size == 0;
                    // The line end after the data; after the last chunk it ends the trailer section.
                    self.left = size.saturating_add(2);
                }
                None => {}
            }
        }
        at
    }
}

/// A close frame of a server.
fn close_frame(is_denial: bool, reason: &str) -> Vec<u8> {
    let code = if is_denial { POLICY_VIOLATION } else { GOING_AWAY };
    // The payload of a control frame has at most 125 bytes; all reasons are shorter.
    let reason = reason.as_bytes();
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut frame = vec![CLOSE, length];
    frame.extend(code.to_be_bytes());
    frame.extend(&reason[..usize::from(length) - 2]);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of a server with this payload.
    fn frame(opcode: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => frame.push(short),
            (_, Ok(length)) => frame.extend([&[126][..], &length.to_be_bytes()].concat()),
            _ => frame.extend([&[127][..], &(length as u64).to_be_bytes()].concat()),
        }
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    fn chunk(length: usize) -> Vec<u8> {
        [format!("{length:X}\r\n").as_bytes(), &vec![b'\n'; length], b"\r\n"].concat()
    }

    /// Writes frames in pieces and checks that exactly their ends are boundaries.
    fn check(framing: Framing, frames: &[Vec<u8>], sizes: &[usize]) {
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |end, frame| {
                Some({
                    *end += frame.len();
                    *end
                })
            })
            .collect();
        let all = frames.concat();
        let mut position = ResponseFrames::new(framing);
        let (mut at, mut sizes) = (0, sizes.iter().copied().cycle());
        while at < all.len() {
            let size = sizes.next().unwrap_or(1).min(all.len() - at);
            let next = ends.iter().find(|end| **end > at).unwrap();
            if !position.is_at_boundary() {
                assert_eq!(position.rest_of_frame(&all[at..]), next - at);
            }
            position.advance(&all[at..at + size]);
            at += size;
            assert_eq!(position.is_at_boundary(), ends.contains(&at), "{at} of {ends:?}");
        }
    }

    proptest! {
        #[test]
        fn frames_end_where_their_headers_say(lengths in prop::collection::vec(0_usize..70_000, 1..4), sizes in prop::collection::vec(1_usize..40_000, 1..6)) {
            let frames: Vec<_> = lengths.iter().map(|length| frame(2, *length)).collect();
            check(Framing::WebSocket, &frames, &sizes);
        }

        #[test]
        fn chunks_end_after_their_data(lengths in prop::collection::vec(1_usize..3_000, 1..4), sizes in prop::collection::vec(1_usize..2_000, 1..6)) {
            let chunks: Vec<_> = lengths.iter().map(|length| chunk(*length)).collect();
            check(Framing::Chunks, &chunks, &sizes);
        }
    }

    #[test]
    fn small_frames_are_found_byte_by_byte() {
        check(Framing::WebSocket, &[frame(1, 0), frame(1, 3), frame(9, 125), frame(2, 126), frame(2, 65_536)], &[1]);
        check(Framing::Chunks, &[chunk(1), chunk(16), chunk(255)], &[1]);
        // Masked, which a server must not send.
        check(Framing::WebSocket, &[vec![0x81, 0x82, 1, 2, 3, 4, 5, 6]], &[1]);
    }

    #[test]
    fn stream_is_ended_with_a_frame_unless_the_server_has_ended_it() {
        let mut frames = ResponseFrames::new(Framing::WebSocket);
        assert_eq!(frames.last_frame(true, "why").unwrap(), b"\x88\x05\x03\xf0why");
        assert_eq!(frames.last_frame(false, "why").unwrap(), b"\x88\x05\x03\xe9why");
        frames.advance(&[0x81, 2, b'a']);
        assert_eq!(frames.last_frame(true, "why"), None);
        frames.advance(b"b\x88\x00");
        assert_eq!(frames.last_frame(true, "why"), None);
        let mut chunks = ResponseFrames::new(Framing::Chunks);
        assert_eq!(chunks.last_frame(true, "why").unwrap(), b"0\r\n\r\n");
        chunks.advance(b"0\r\n\r\n");
        assert!(chunks.is_at_boundary());
        assert_eq!(chunks.last_frame(true, "why"), None);
    }
}
