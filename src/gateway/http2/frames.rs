//! Counts the frames of a client that cost this side more than the client (RFC 9113 section 10.5), from the bytes as they pass.

use std::time::Duration;

/// The size of a frame header in bytes.
const HEADER: usize = 9;
/// The size of the connection preface in bytes.
const PREFACE: usize = 24;
/// How many such frames are accepted at once.
const BURST: u32 = 1_000;
/// How many more are accepted for each second.
const PER_SECOND: u32 = 200;
/// For how many sent bytes one window update is accepted in addition.
const BYTES_PER_UPDATE: u64 = 1_024;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const WINDOW_UPDATE: u8 = 0x8;
const END_STREAM: u8 = 0x1;

/// The position in the frames of a connection, and the budget of frames that are left.
#[derive(Debug)]
pub(super) struct FrameCounter {
    /// How many bytes of the preface or of the current payload are left.
    skip: usize,
    header: [u8; HEADER],
    /// How many bytes of the header have arrived.
    filled: usize,
    /// Frames that are left of the budget.
    budget: u32,
    /// Window updates that are left in addition.
    updates: u64,
    /// Sent bytes that are not enough for an update yet.
    sent: u64,
    refilled: Duration,
}

impl FrameCounter {
    /// The counter of a new connection, at its first byte.
    pub(super) fn new(now: Duration) -> Self {
        Self { skip: PREFACE, header: [0; HEADER], filled: 0, budget: BURST, updates: 0, sent: 0, refilled: now }
    }

    /// Notes bytes that were sent to the client.
    pub(super) fn note_sent(&mut self, length: usize) {
        self.sent += length as u64;
        self.updates += self.sent / BYTES_PER_UPDATE;
        self.sent %= BYTES_PER_UPDATE;
    }

    /// Reads received bytes. Returns `false` once the client has exceeded its budget.
    pub(super) fn accept(&mut self, mut bytes: &[u8], now: Duration) -> bool {
        self.refill(now);
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let copied = (HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + copied].copy_from_slice(&bytes[..copied]);
            self.filled += copied;
            bytes = &bytes[copied..];
            if self.filled == HEADER {
                self.filled = 0;
                if !self.charge() {
                    return false;
                }
            }
        }
        true
    }

    /// Charges the frame whose header is complete.
    fn charge(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let is_free = match kind {
            // New requests are limited by the number of streams and by what each costs its sender.
            HEADERS => true,
            DATA => self.skip > 0 || flags & END_STREAM != 0,
            WINDOW_UPDATE if self.updates > 0 => {
                self.updates -= 1;
                true
            }
            _ => false,
        };
        if is_free {
            return true;
        }
        let is_left = self.budget > 0;
        self.budget = self.budget.saturating_sub(1);
        is_left
    }

    fn refill(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.refilled).as_secs();
        if seconds > 0 {
            self.refilled += Duration::from_secs(seconds);
            let added = PER_SECOND.saturating_mul(u32::try_from(seconds).unwrap_or(u32::MAX));
            self.budget = self.budget.saturating_add(added).min(BURST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 0x6;
    const RST_STREAM: u8 = 0x3;
    const CONTINUATION: u8 = 0x9;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn connection() -> FrameCounter {
        let mut counter = FrameCounter::new(Duration::ZERO);
        assert!(counter.accept(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Duration::ZERO));
        counter
    }

    /// How many of these frames a new connection accepts, of at most 5,000.
    fn accepted(bytes: &[u8], piece: usize) -> usize {
        let mut counter = connection();
        let accepts = |counter: &mut FrameCounter| bytes.chunks(piece).all(|part| counter.accept(part, Duration::ZERO));
        (0..5_000).take_while(|_| accepts(&mut counter)).count()
    }

    #[test]
    fn frames_that_cost_their_sender_little_are_counted() {
        for piece in [1, 4, 10, 100] {
            for (kind, payload) in [
                (PING, &[0; 8][..]),
                (RST_STREAM, &[0; 4]),
                (CONTINUATION, b"x"),
                (DATA, b""),
                (0x4, b""),
                (0xfa, b"abc"),
            ] {
                assert_eq!(accepted(&frame(kind, 0, payload), piece), 1_000, "{kind} in pieces of {piece}");
            }
            assert_eq!(accepted(&frame(WINDOW_UPDATE, 0, &[0; 4]), piece), 1_000);
            for (kind, flags, payload) in [(HEADERS, 4, &b"abc"[..]), (DATA, 0, b"a"), (DATA, END_STREAM, b"")] {
                assert_eq!(accepted(&frame(kind, flags, payload), piece), 5_000, "{kind}");
            }
        }
    }

    #[test]
    fn rapid_reset_is_counted_by_its_resets() {
        let pair = [frame(HEADERS, 5, b"headers"), frame(RST_STREAM, 0, &[0; 4])].concat();
        assert_eq!(accepted(&pair, 100), 1_000);
    }

    #[test]
    fn budget_is_refilled_with_time_and_updates_with_sent_bytes() {
        let mut counter = connection();
        let ping = frame(PING, 0, &[0; 8]);
        assert!((0..1_000).all(|_| counter.accept(&ping, Duration::ZERO)));
        assert!((0..400).all(|_| counter.accept(&ping, Duration::from_secs(2))));
        assert!(!counter.accept(&ping, Duration::from_secs(2)));
        let mut counter = connection();
        assert!((0..1_000).all(|_| counter.accept(&ping, Duration::ZERO)));
        let update = frame(WINDOW_UPDATE, 0, &[0; 4]);
        for _ in 0..32 {
            counter.note_sent(16 * 1024);
        }
        assert!((0..512).all(|_| counter.accept(&update, Duration::ZERO)));
        assert!(!counter.accept(&update, Duration::ZERO));
    }
}
