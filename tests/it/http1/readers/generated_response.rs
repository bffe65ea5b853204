//! Generated responses of an upstream: valid ones, ambiguous ones, and those with a few changed bytes.

use proptest::collection::vec;
use proptest::prelude::*;

/// A request's method, and the bytes that the upstream sends before it closes the connection.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) method: &'static str,
    pub(super) bytes: Vec<u8>,
    /// The size of the writes.
    pub(super) piece: usize,
}

/// Bytes of the framing of a message.
const TELLING: &[u8] = b"\r\n\0\t :;,0129afX-+\"HTP\x7f\xff";

fn interim() -> impl Strategy<Value = String> {
    let one = prop::sample::select(vec![
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n",
    ]);
    prop_oneof![4 => Just(String::new()), 1 => vec(one, 1..4).prop_map(|all| all.concat())]
}

fn status_line() -> impl Strategy<Value = String> {
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
    let status = prop_oneof![
        6 => prop::sample::select(vec![200_u16, 201, 203, 204, 205, 206, 301, 304, 400, 404, 407, 421, 500, 502, 503]),
        1 => 100_u16..1000,
    ];
    let reason = prop::sample::select(vec![" OK", " ", "", " Not  What You Think", " \u{e9}"]);
    (version, status, reason).prop_map(|(version, status, reason)| format!("{version} {status}{reason}\r\n"))
}

fn fields() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "X-A",
        "x-a",
        "X_B",
        "ETag",
        "Vary",
        "Set-Cookie",
        "Set-Cookie",
        "Location",
        "Server",
        "Via",
        "Date",
        "Trailer",
        "Keep-Alive",
        "Proxy-Connection",
        "Upgrade",
        "X-Request-Id",
        "Cache-Control",
        "Connection",
    ]);
    let value = prop_oneof![
        6 => "[a-z0-9/][a-z0-9,;=/ ]{0,12}[a-z0-9]",
        1 => Just(String::new()),
        1 => prop::sample::select(vec!["close", "keep-alive", "X-A", "close, x-a", "\u{e9}"]).prop_map(str::to_owned),
    ];
    let blanks = prop::sample::select(vec!["", " ", "\t ", "  "]);
    let line = (name, value, blanks).prop_map(|(name, value, blank)| format!("{name}:{blank}{value}{blank}\r\n"));
    vec(line, 0..7).prop_map(|lines| lines.concat())
}

/// Fields of the framing, with `N` for the length of the body, and whether the body has chunks.
fn framing() -> impl Strategy<Value = (&'static str, bool)> {
    prop_oneof![
        8 => prop::sample::select(vec![
            ("Content-Length: N\r\n", false),
            ("Content-Length: N\r\n", false),
            ("content-length:0N\r\nContent-Length: N\r\n", false),
            ("Content-Length: N, N\r\n", false),
            ("Transfer-Encoding: chunked\r\n", true),
            ("transfer-encoding:\tChunked \r\n", true),
            ("", false),
        ]),
        1 => prop::sample::select(vec![
            ("Content-Length: N\r\nTransfer-Encoding: chunked\r\n", true),
            ("Transfer-Encoding: chunked\r\nContent-Length: N\r\n", false),
            ("Content-Length: N\r\nContent-Length: 1N\r\n", false),
            ("Content-Length: N, 3\r\n", false),
            ("Content-Length: -N\r\n", false),
            ("Content-Length: +N\r\n", false),
            ("Content-Length: \r\n", false),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", true),
            ("Transfer-Encoding: gzip, chunked\r\n", true),
            ("Transfer-Encoding: chunked, gzip\r\n", false),
            ("Transfer-Encoding: identity\r\n", false),
            ("Transfer-Encoding: xchunked\r\n", true),
            ("", true),
        ]),
    ]
}

fn chunks(body: &[u8], size: usize, extension: &str, trailers: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend([format!("{:x}{extension}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    bytes.extend(format!("0{extension}\r\n{trailers}\r\n").bytes());
    bytes
}

fn body() -> impl Strategy<Value = (Vec<u8>, usize, &'static str, &'static str)> {
    let body = prop_oneof![
        1 => Just(Vec::new()),
        4 => vec(any::<u8>(), 1..200),
        1 => vec(any::<u8>(), 20_000..40_000),
    ];
    let extension = prop::sample::select(vec!["", "", ";a", ";a=\"b\";c"]);
    let trailers = prop::sample::select(vec!["", "", "T: u\r\n", "X-A: trailer\r\nContent-Length: 7\r\n"]);
    (body, 1..9_000_usize, extension, trailers)
}

/// A response without changes.
fn response() -> impl Strategy<Value = Vec<u8>> {
    (interim(), status_line(), fields(), framing(), any::<bool>(), body()).prop_map(
        |(interim, line, fields, (framing, is_chunked), is_first, (body, size, extension, trailers))| {
            let framing = framing.replace('N', &body.len().to_string());
            let fields = if is_first { framing + &fields } else { fields + &framing };
            let body = if is_chunked { chunks(&body, size, extension, trailers) } else { body };
            [format!("{interim}{line}{fields}\r\n").as_bytes(), &body].concat()
        },
    )
}

/// A response: whole, or with changes, a part of it, or more than it.
pub(super) fn case() -> impl Strategy<Value = Case> {
    let method = prop::sample::select(vec!["GET", "GET", "GET", "HEAD"]);
    let edit = (any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(TELLING.to_vec()));
    let edits = prop_oneof![2 => Just(Vec::new()), 1 => vec(edit, 1..3)];
    let cut = prop_oneof![6 => Just(0_usize), 1 => 1..300_usize];
    let extra = prop_oneof![8 => Just(&b""[..]), 1 => Just(&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..])];
    let piece = prop::sample::select(vec![usize::MAX, usize::MAX, 1_000, 37]);
    (method, response(), edits, cut, extra, piece).prop_map(|(method, mut bytes, edits, cut, extra, piece)| {
        // Most changes are of the head.
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |end| end + 12);
        for (at, kind, byte) in edits {
            let at = at.index(head.min(bytes.len()));
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        bytes.extend_from_slice(extra);
        Case { method, bytes, piece }
    })
}
