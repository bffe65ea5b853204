//! Three readers of the same bytes: the fast path, pingora's proxy, and hyper.
//!
//! Both paths forward the same requests. hyper, as the upstream, reads each of them as one request, with the meaning that hyper finds in the
//! bytes of the client. Where Keygate rejects what hyper reads, or forwards what hyper rejects, a list says why.

mod generated_response;
mod meaning;
mod requests;
mod responses;
mod table;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use http::Uri;
use keygate_test_servers::{ReadEnd, ReadRequest, WAIT_TIMEOUT, read_requests};
use serde_json::{Value, json};

use self::meaning::has_meaning;
use crate::support::hyper_upstream::HyperUpstream;
use crate::support::keygate::Keygate;

/// Rejections of requests that hyper reads, by their text in the response, and why Keygate has them.
const STRICTER: &[(&str, &str)] = &[
    (
        "A line of the request head does not end with CR LF.",
        "A recipient may take LF alone (RFC 9112 section 2.2); recipients that do not would see other lines.",
    ),
    (
        "The request line is malformed.",
        "One empty line before a request is ignored, not any number of them (RFC 9112 section 2.2).",
    ),
    (
        "The request target is malformed.",
        "Only the origin form, http and https in absolute form, and `OPTIONS *`; no fragments, user information or characters beyond ASCII.",
    ),
    (
        "The request needs one valid Host field that matches its target.",
        "hyper leaves `Host` to its user (RFC 9112 section 3.2).",
    ),
    (
        "Transfer-Encoding must be chunked, once and alone.",
        "hyper takes a list that ends with chunked, and drops Content-Length (RFC 9112 section 6.1 allows both answers).",
    ),
    ("CONNECT and TRACE are not served.", "The gateway is neither a tunnel nor a mirror."),
    ("The request head exceeds a limit.", "`limits.head_bytes` and `limits.head_fields`."),
    ("The request target is longer than the limit.", "`limits.target_bytes`."),
    ("No route takes this request.", "The path has an invalid escape."),
    ("The request could not be read.", "Chunks: extensions above 4 KiB, LF alone at the end."),
];

/// The text for an answer to HEAD, which has none. Such answers are not made before the head is read, so they are those of the pipeline.
const NO_TEXT: &str = "an answer to HEAD";

/// Whether a request is of a kind, by the bytes of its client and by what the upstream reads.
type IsOfKind = fn(&[u8], &ReadRequest) -> bool;

/// Requests that Keygate forwards and hyper rejects: why, and which they are.
const LAXER: &[(&str, IsOfKind)] = &[
    ("A list of equal lengths is one length (RFC 9110 section 8.6).", |bytes, _| {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        text.lines().any(|line| line.starts_with("content-length:") && line.contains(','))
    }),
    // hyper reads trailers as fields, and fails if they are none.
    ("Extensions and trailers of chunks are dropped unread.", |bytes, request| {
        let is_chunked = request.fields.iter().any(|(name, _)| name == "transfer-encoding");
        is_chunked && read_requests(bytes).1 == ReadEnd::Incomplete
    }),
];

/// The gateway with and without the fast path.
struct Readers {
    fast: Path,
    proxy: Path,
}

/// A gateway, and its upstream.
struct Path {
    keygate: Keygate,
    upstream: HyperUpstream,
}

/// What a path makes of the bytes of a client.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    answers: Vec<Answer>,
    /// The requests that hyper reads as the upstream.
    forwarded: Vec<ReadRequest>,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// By the upstream.
    Accepted,
    /// By Keygate: the status and the text.
    Rejected(u16, String),
    /// hyper, as the upstream, has rejected a request with this target.
    RejectedByHyper(String),
}

impl Readers {
    fn start() -> Self {
        Self { fast: Path::start(true), proxy: Path::start(false) }
    }

    /// Checks what both paths and hyper make of the bytes of a client, and returns it.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, bytes: &[u8]) -> Result<(Outcome, (Vec<ReadRequest>, ReadEnd)), String> {
        let (outcome, on_proxy) = (self.fast.send(bytes), self.proxy.send(bytes));
        let read = read_requests(bytes);
        if outcome != on_proxy {
            return Err(format!("the fast path: {outcome:?}\nthe proxy: {on_proxy:?}"));
        }
        outcome.compare(bytes, &read.0).map_err(|error| format!("{error}\nKeygate: {outcome:?}\nhyper: {read:?}"))?;
        Ok((outcome, read))
    }
}

impl Path {
    fn start(fast_path: bool) -> Self {
        let upstream = HyperUpstream::start();
        let gateway = json!({
            "address": "127.0.0.1:0",
            "fast_path": fast_path,
            "routes": [{"name": "all", "upstream": "api", "auth": "none", "host": "preserve"}],
            "upstreams": {"api": {
                "endpoints": [upstream.url],
                "retries": {"attempts": 0},
                "ejection": {"max_percent": 0}
            }}
        });
        Self { keygate: Keygate::serve(&gateway, &json!({})), upstream }
    }

    /// Sends bytes, and reads the answers to the end of the connection.
    fn send(&self, bytes: &[u8]) -> Outcome {
        let address = self.keygate.gateway.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        // The gateway may close the connection before it has read everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received);
        let answers = self.answers(&received);
        let mut forwarded = self.upstream.take();
        let authority = self.upstream.url.trim_start_matches("http://").as_bytes();
        for request in &mut forwarded {
            // Each request has another id; the address of the upstream stands for a host that the client has not named.
            request.fields.retain(|(name, _)| name != "x-request-id");
            for (_, value) in request.fields.iter_mut().filter(|(name, value)| name == "host" && value == authority) {
                *value = b"upstream".to_vec();
            }
        }
        Outcome { answers, forwarded }
    }

    fn answers(&self, mut received: &[u8]) -> Vec<Answer> {
        let mut answers = Vec::new();
        while !received.is_empty() {
            let shown = String::from_utf8_lossy(received).into_owned();
            let end = received.windows(4).position(|window| window == b"\r\n\r\n");
            let end = end.unwrap_or_else(|| panic!("no head of a response in {shown:?}")) + 4;
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            received = &received[end..];
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            if status < 200 {
                continue;
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            // The answer to HEAD has no body.
            let length = if received.starts_with(b"HTTP/1.1") { 0 } else { length.parse().unwrap() };
            let (body, rest) = received.split_at(received.len().min(length));
            received = rest;
            answers.push(match status {
                200 => Answer::Accepted,
                _ if head.contains("content-type: application/problem+json") => {
                    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
                    Answer::Rejected(status, problem["detail"].as_str().unwrap_or(NO_TEXT).to_owned())
                }
                _ => {
                    let bytes = self.upstream.take_rejected();
                    let line = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
                    Answer::RejectedByHyper(line.split(' ').nth(1).unwrap_or_default().to_owned())
                }
            });
        }
        answers
    }
}

impl Outcome {
    /// Compares each answer with what hyper reads in the same bytes.
    fn compare(&self, bytes: &[u8], read: &[ReadRequest]) -> Result<(), String> {
        let mut forwarded = self.forwarded.iter();
        for (index, answer) in self.answers.iter().enumerate() {
            let expected = read.get(index);
            match (answer, expected) {
                (Answer::Accepted, _) => {
                    let found = forwarded.next().ok_or("an answer belongs to no request")?;
                    let Some(expected) = expected else { return is_listed_as_laxer(bytes, found) };
                    if !has_meaning(found, expected) {
                        return Err(format!("request {index} has another meaning"));
                    }
                }
                // Before the end of its connection, the upstream has read nothing else than this request.
                (Answer::RejectedByHyper(target), _) if target.parse::<Uri>().is_err() => {}
                (Answer::RejectedByHyper(target), _) => return Err(format!("hyper rejects a request for {target}")),
                (Answer::Rejected(_, detail), Some(_)) => {
                    if detail != NO_TEXT && !STRICTER.iter().any(|(listed, _)| listed == detail) {
                        return Err(format!("hyper reads what Keygate rejects: {detail}"));
                    }
                }
                // What follows cannot be compared.
                (Answer::Rejected(..), None) => return Ok(()),
            }
        }
        if forwarded.next().is_some() {
            return Err("a request that was forwarded has no answer".to_owned());
        }
        let is_last_accepted = matches!(self.answers.last(), None | Some(Answer::Accepted));
        if self.answers.len() < read.len() && is_last_accepted {
            return Err(format!("{} requests have {} answers", read.len(), self.answers.len()));
        }
        Ok(())
    }
}

fn is_listed_as_laxer(bytes: &[u8], request: &ReadRequest) -> Result<(), String> {
    let is_listed = LAXER.iter().any(|(_, applies)| applies(bytes, request));
    if is_listed { Ok(()) } else { Err("Keygate forwards what hyper rejects".to_owned()) }
}
