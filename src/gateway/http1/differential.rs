//! hyper reads what is forwarded as the same requests that were sent.

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::forwarded::{ForwardedRequest, forward};
use crate::config::ListenerLimits;

/// A request that must be read after the one under test.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n";

/// A request as a recipient understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Understood {
    method: String,
    target: String,
    /// Names in lower case and values, sorted.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// The bytes of a request as a client sends it, and its meaning.
#[derive(Debug, Clone)]
struct Sent {
    bytes: Vec<u8>,
    meaning: Understood,
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

fn sent() -> impl Strategy<Value = Sent> {
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
            Sent { bytes, meaning: Understood { method, target: meant_target, fields: meant, body: framing.body } }
        },
    )
}

/// The requests that hyper reads, each with its whole body.
fn read_by_hyper(bytes: &[u8]) -> Vec<Understood> {
    let read = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let read = Arc::clone(&read);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            let fields = head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            let mut fields: Vec<_> = fields.collect();
            fields.sort();
            let (method, target) = (head.method.to_string(), head.uri.to_string());
            read.lock().unwrap().push(Understood { method, target, fields, body });
            Ok::<_, hyper::Error>(Response::new(String::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(bytes.len() + 64 * 1024);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        // The error of bytes that are not a request ends the connection.
        let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await;
    });
    let mut read = read.lock().unwrap();
    std::mem::take(&mut read)
}

/// What hyper reads of a request that is forwarded; fails unless the next request follows it.
fn understood(request: &ForwardedRequest) -> Option<Understood> {
    let mut read = read_by_hyper(&[&request.head[..], &request.body, NEXT].concat());
    // hyper closes a connection of HTTP/1.0.
    if request.head.windows(11).any(|window| window == b" HTTP/1.1\r\n") && !read.is_empty() {
        let next = read.pop().unwrap();
        assert_eq!((next.method.as_str(), next.target.as_str()), ("GET", "/next"), "{request:?}");
    }
    assert!(read.len() <= 1, "{request:?}: {read:?}");
    read.pop()
}

/// Splits bytes into pieces of sizes that repeat.
fn pieces<'b>(mut bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(*sizes.next().unwrap()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// The request line of a head, and its fields in lower case, as they are written.
fn written(request: &ForwardedRequest) -> (String, Vec<(String, Vec<u8>)>) {
    let head: String = request.head.iter().copied().map(char::from).collect();
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let bytes = |text: &str| text.chars().map(|character| character as u8).collect();
    let fields = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{head:?}")));
    let mut fields: Vec<_> = fields.map(|(name, value)| (name.to_ascii_lowercase(), bytes(value))).collect();
    fields.sort();
    (line, fields)
}

/// Bytes that separate the parts of a message, digits and letters of framing.
const TELLING: &[u8] = b"\r\n\0\t\x0b :;,0129aAfFxX-+\"#/?*HTTP\x7f\xa0\xff";

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(TELLING.to_vec()));
    (vec(sent(), 1..3), vec(edit, 1..4)).prop_map(|(sent, edits)| {
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

proptest! {
    #[test]
    fn hyper_reads_the_requests_that_were_sent(sent in vec(sent(), 1..4), sizes in vec(1_usize..80, 1..6)) {
        let bytes: Vec<u8> = sent.iter().flat_map(|sent| sent.bytes.clone()).collect();
        let forwarded = forward(pieces(&bytes, &sizes), &ListenerLimits::default());
        prop_assert_eq!(forwarded.refusal, None);
        prop_assert_eq!(forwarded.requests.len(), sent.len());
        for (request, sent) in forwarded.requests.iter().zip(sent) {
            prop_assert!(request.is_complete);
            prop_assert_eq!(understood(request), Some(sent.meaning));
        }
    }

    #[test]
    fn hyper_reads_nothing_else_in_mutated_requests(bytes in mutated()) {
        for request in forward([&bytes[..]], &ListenerLimits::default()).requests {
            if !request.is_complete {
                let read = read_by_hyper(&[&request.head[..], &request.body].concat());
                prop_assert_eq!(read, vec![]);
                continue;
            }
            let (line, fields) = written(&request);
            let (method, rest) = line.split_once(' ').unwrap();
            let (target, _version) = rest.split_once(' ').unwrap();
            match understood(&request) {
                Some(read) => {
                    prop_assert_eq!((read.method.as_str(), read.target.as_str()), (method, target));
                    prop_assert_eq!(&read.fields, &fields);
                    if !fields.iter().any(|(name, _)| name == "transfer-encoding") {
                        prop_assert_eq!(&read.body, &request.body);
                    }
                }
                // hyper has a narrower idea of targets.
                None => prop_assert!(target.parse::<Uri>().is_err(), "{request:?}"),
            }
        }
    }
}
