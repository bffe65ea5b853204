//! Requests of HTTP/1.1: generated ones with their meaning, and mutated ones.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::hyper_reader::ReadRequest;

/// The bytes of a request as a client sends it, and its meaning.
#[derive(Debug, Clone)]
pub struct SentRequest {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The request as a recipient of the origin form of its target understands it.
    pub meaning: ReadRequest,
}

/// How the body of a request is framed.
#[derive(Debug, Clone)]
enum Framing {
    None,
    /// The values of `Content-Length` before and after other fields, with `N` for the length.
    Length(Vec<u8>, &'static [&'static str]),
    /// Chunks with what follows their size, the name of the coding, and trailers.
    Chunks(Vec<(Vec<u8>, &'static str)>, &'static str, &'static str),
}

fn method() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => "X[A-Za-z!#$%&'*+.^_`|~-]{0,9}"]
}

/// A target as it is sent, its path and query, which an absolute one may lack, and the value of `Host`.
fn target() -> impl Strategy<Value = (String, String, String)> {
    let path = "/[a-zA-Z0-9._~!$&'()*+,;=:@%/-]{0,30}(\\?[a-zA-Z0-9._~!$&'()*+,;=:@%/?-]{0,20})?";
    let host = prop::sample::select(vec!["h", "Example.com:8080", "[::1]:80", "127.0.0.1"]);
    let scheme = prop::sample::select(vec!["", "", "http://", "HTTPS://"]);
    (path, host, scheme, any::<bool>()).prop_map(|(path, host, scheme, has_path)| {
        let is_absolute = !scheme.is_empty();
        let origin = if has_path || !is_absolute { path } else { String::new() };
        let authority = if is_absolute { host } else { "" };
        (format!("{scheme}{authority}{origin}"), origin, host.to_owned())
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x21_u8..0x7f, 1 => Just(b' '), 1 => Just(b'\t'), 1 => 0x80_u8..];
    vec(byte, 0..30).prop_map(|value| value.trim_ascii().to_vec())
}

fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>, &'static str)>> {
    let blanks = prop::sample::select(vec!["", " ", "\t", " \t "]);
    vec(("X-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,12}", value(), blanks), 0..8)
}

fn framing() -> impl Strategy<Value = Framing> {
    let body = || vec(any::<u8>(), 0..60);
    let lengths = vec![&["N"][..], &["N", "N"], &["N,N"], &["00N", " N , N "], &["\tN", "0N", "N"]];
    let extension = vec!["", ";a", ";a=b;c", "; \"q\\\"\"", ";\u{e9}"];
    let chunks = vec((vec(any::<u8>(), 1..40), prop::sample::select(extension)), 0..5);
    let coding = prop::sample::select(vec!["chunked", "Chunked", "\tCHUNKED "]);
    let trailers = prop::sample::select(vec!["", "T: u\r\n", "Host: t\r\nContent-Length: 7\r\n", "\tfolded\r\n"]);
    prop_oneof![
        1 => Just(Framing::None),
        2 => (body(), prop::sample::select(lengths)).prop_map(|(body, values)| Framing::Length(body, values)),
        2 => (chunks, coding, trailers).prop_map(|(chunks, coding, trailers)| Framing::Chunks(chunks, coding, trailers)),
    ]
}

/// A framing and a body in a request.
#[derive(Debug, Default)]
struct FramingParts {
    /// The field lines to send.
    lines: Vec<String>,
    /// The field that is understood.
    field: Option<(String, Vec<u8>)>,
    /// The body as it is sent.
    bytes: Vec<u8>,
    /// The body as it is understood.
    body: Vec<u8>,
}

impl Framing {
    fn parts(&self) -> FramingParts {
        match self {
            Self::None => FramingParts::default(),
            Self::Length(body, values) => {
                let length = body.len().to_string();
                let lines = values.iter().map(|value| format!("cOntent-Length:{}", value.replace('N', &length)));
                let field = ("content-length".to_owned(), length.clone().into_bytes());
                FramingParts { lines: lines.collect(), field: Some(field), bytes: body.clone(), body: body.clone() }
            }
            Self::Chunks(chunks, coding, trailers) => {
                let mut bytes = Vec::new();
                for (index, (chunk, extension)) in chunks.iter().enumerate() {
                    let zeros = &"000"[index % 4..];
                    bytes.extend(
                        [format!("{zeros}{:X}{extension}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat(),
                    );
                }
                bytes.extend(format!("0\r\n{trailers}\r\n").bytes());
                let field = ("transfer-encoding".to_owned(), coding.trim().as_bytes().to_vec());
                let body = chunks.iter().flat_map(|(chunk, _)| chunk).copied().collect();
                FramingParts { lines: vec![format!("Transfer-encoding:{coding}")], field: Some(field), bytes, body }
            }
        }
    }
}

/// A request that every recipient reads alike.
pub fn sent_request() -> impl Strategy<Value = SentRequest> {
    (method(), target(), fields(), framing(), any::<[bool; 3]>()).prop_map(
        |(method, (target, origin, host), fields, framing, [has_empty_line, has_upgrade, is_host_last])| {
            // RFC 9112 section 3.2.4.
            let meant_target = match (origin.as_str(), method.as_str()) {
                ("", "OPTIONS") => "*".to_owned(),
                ("", _) => "/".to_owned(),
                _ => origin,
            };
            let framing = framing.parts();
            let mut lines: Vec<Vec<u8>> = fields
                .iter()
                .map(|(name, value, blanks)| {
                    [name.as_bytes(), b":", blanks.as_bytes(), value, blanks.as_bytes()].concat()
                })
                .collect();
            lines.extend(framing.lines.into_iter().map(String::into_bytes));
            if has_upgrade {
                lines.extend([b"Upgrade: h2c".to_vec(), b"HTTP2-Settings: AAMAAABk".to_vec()]);
            }
            lines.insert(if is_host_last { lines.len() } else { 0 }, format!("hOST: {host}").into_bytes());
            let mut bytes = if has_empty_line { b"\r\n".to_vec() } else { Vec::new() };
            bytes.extend(format!("{method} {target} HTTP/1.1\r\n").bytes());
            for line in &lines {
                bytes.extend([line, &b"\r\n"[..]].concat());
            }
            bytes.extend([b"\r\n", &framing.bytes[..]].concat());
            let mut meant: Vec<_> =
                fields.into_iter().map(|(name, value, _)| (name.to_ascii_lowercase(), value)).collect();
            meant.extend(framing.field);
            meant.push(("host".to_owned(), host.into_bytes()));
            meant.sort();
            SentRequest {
                bytes,
                meaning: ReadRequest { method, target: meant_target, fields: meant, body: framing.body },
            }
        },
    )
}

/// Bytes that separate the parts of a message, digits and letters of framing.
const TELLING: &[u8] = b"\r\n\0\t\x0b :;,0129aAfFxX-+\"#/?*HTTP\x7f\xa0\xff";

/// The bytes of some requests, with a few bytes changed, added or removed.
pub fn mutated_requests() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(TELLING.to_vec()));
    (vec(sent_request(), 1..3), vec(edit, 1..4)).prop_map(|(sent, edits)| {
        let mut bytes: Vec<u8> = sent.into_iter().flat_map(|sent| sent.bytes).collect();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    })
}
