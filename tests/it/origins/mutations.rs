//! Mutations of the seeds. Each has a number, from which it is made again.

use std::sync::LazyLock;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::seeds::{LINES, seeds};

/// Bytes that end or separate parts of a message, and some that look so to some programs.
const BYTES: &[u8] = b"\r\n\0\t\x0b\x0c :;,0123456789aAfFxX-+\"#/?*%\\HTP\x7f\x85\xa0\xff";
/// Sequences of them.
const SEQUENCES: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r\n",
    b"\n\r",
    b"0\r\n\r\n",
    b"\r\n0\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"HTTP/0.9",
    b"%0d%0a",
    b"\xe5\x98\x8d\xe5\x98\x8a",
    b"ffffffffffffffff",
    b"100000000\r\n",
];
const EDITS_MAX: u32 = 3;

static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(seeds);

/// A mutated request, or several, as a client sends them.
pub(super) struct Mutation {
    bytes: Vec<u8>,
    /// The size of the pieces.
    piece: usize,
}

impl Mutation {
    /// The mutation with this number.
    pub(super) fn new(index: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(index);
        let mut bytes = seed(&mut rng).to_vec();
        if rng.random_bool(0.2) {
            bytes.extend_from_slice(seed(&mut rng));
        }
        for _ in 0..rng.random_range(1..=EDITS_MAX) {
            edit(&mut bytes, &mut rng);
        }
        let piece = if rng.random_bool(0.7) { bytes.len() } else { rng.random_range(bytes.len() / 8..=bytes.len()) };
        Self { bytes, piece }
    }

    /// The bytes in the pieces in which they are sent.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.piece.max(1))
    }
}

fn seed(rng: &mut StdRng) -> &'static [u8] {
    SEEDS.choose(rng).unwrap()
}

fn edit(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..12) {
        0 => bytes[at] = *BYTES.choose(rng).unwrap(),
        1 => bytes[at] = rng.random(),
        2 => bytes.insert(at, *BYTES.choose(rng).unwrap()),
        3 => drop(bytes.remove(at)),
        4 => {
            let end = bytes.len().min(at + rng.random_range(1..20));
            drop(bytes.drain(at..end));
        }
        5 => {
            let end = bytes.len().min(at + rng.random_range(1..60));
            let copy = bytes[at..end].to_vec();
            insert(bytes, end, &copy);
        }
        6 => insert(bytes, at, SEQUENCES.choose(rng).unwrap()),
        7 => bytes.truncate(at + 1),
        8 | 9 => {
            let start = line_start(bytes, rng);
            let line = [LINES.choose(rng).unwrap().as_bytes(), b"\r\n"].concat();
            insert(bytes, start, &line);
        }
        10 => {
            let start = line_start(bytes, rng);
            let end = bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| start + end + 1);
            let line: Vec<u8> = bytes.drain(start..end).collect();
            // The line is repeated, moved or removed.
            for _ in 0..rng.random_range(0..3) {
                let start = line_start(bytes, rng);
                insert(bytes, start, &line);
            }
        }
        _ => change_number(bytes, at, rng),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, inserted: &[u8]) {
    bytes.splice(at..at, inserted.iter().copied());
}

/// The start of some line.
fn line_start(bytes: &[u8], rng: &mut StdRng) -> usize {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let starts: Vec<usize> = starts.collect();
    starts.choose(rng).copied().unwrap_or(0)
}

/// Changes the first digit after a position: a length, the size of a chunk, or a version.
fn change_number(bytes: &mut Vec<u8>, at: usize, rng: &mut StdRng) {
    let Some(offset) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
    let at = at + offset;
    match rng.random_range(0..5) {
        0 => bytes[at] = b'0' + rng.random_range(0..10),
        1 => insert(bytes, at, b"0"),
        2 => insert(bytes, at, [&b"+"[..], b"-", b"0x", b" ", b"_", b"1"].choose(rng).unwrap()),
        3 => insert(bytes, at + 1, [&b" "[..], b"\t", b";", b",", b".0", b"_", b"a", b"0"].choose(rng).unwrap()),
        _ => drop(bytes.remove(at)),
    }
}
