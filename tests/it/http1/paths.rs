//! Both paths to an upstream, the fast path and pingora's proxy, forward the same requests and responses alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::serve_path;
use crate::support::keygate::Keygate;
use crate::support::raw_upstream::{read_body, read_head};

/// The number of generated exchanges.
const CASES: u32 = 400;

/// A request, and the response of the upstream.
#[derive(Debug, Clone)]
struct Case {
    method: &'static str,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    response: Response,
}

#[derive(Debug, Clone)]
struct Response {
    interim: bool,
    version: &'static str,
    status: u16,
    fields: Vec<(String, String)>,
    framing: Framing,
    body: Vec<u8>,
    /// How many bytes at the end are not sent.
    cut: usize,
    /// What is sent after the response.
    extra: &'static str,
    /// The size of the writes.
    piece: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

/// What one side of an exchange looks like, without what the two paths may do differently.
#[derive(Clone, PartialEq, Eq)]
struct Message {
    line: String,
    fields: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
    is_complete: bool,
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec![
        "X-A",
        "x-b",
        "Accept",
        "Cookie",
        "Authorization",
        "X-Api-Key",
        "X-Forwarded-For",
        "X-Keygate-Actor-Id",
        "X_User",
        "Via",
        "TE",
        "Trailer",
        "Keep-Alive",
        "Proxy-Connection",
        "ETag",
        "Vary",
        "Cache-Control",
        "X-Request-Id",
        "Location",
    ]);
    vec((name.prop_map(str::to_owned), "[a-z0-9/][a-z0-9,;=/ ]{0,12}[a-z0-9]"), 0..7)
}

fn response() -> impl Strategy<Value = Response> {
    let status = prop::sample::select(vec![200, 200, 200, 201, 204, 206, 301, 304, 404, 500, 503]);
    let framing = prop::sample::select(vec![Framing::Length, Framing::Length, Framing::Chunked, Framing::UntilClose]);
    let body = prop_oneof![3 => vec(any::<u8>(), 0..200), 1 => vec(any::<u8>(), 20_000..60_000)];
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
    let cut = prop_oneof![6 => Just(0_usize), 1 => 1..300_usize];
    let extra = prop_oneof![8 => Just(""), 1 => Just("HTTP/1.1 200 OK\r\n\r\n")];
    let piece = prop::sample::select(vec![usize::MAX, usize::MAX, 1_000, 37]);
    (any::<bool>(), version, status, fields(), framing, body, cut, extra, piece).prop_map(
        |(interim, version, status, fields, framing, body, cut, extra, piece)| {
            let framing = if version == "HTTP/1.0" && framing == Framing::Chunked { Framing::Length } else { framing };
            Response { interim, version, status, fields, framing, body, cut, extra, piece }
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let method = prop::sample::select(vec!["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]);
    let body = prop_oneof![2 => Just(None), 1 => vec(any::<u8>(), 0..300).prop_map(Some), 1 => vec(any::<u8>(), 70_000..90_000).prop_map(Some)];
    (method, fields(), body, response()).prop_map(|(method, fields, body, response)| {
        // GET with a body is legal and rare.
        let body = body.filter(|_| !matches!(method, "HEAD" | "OPTIONS"));
        Case { method, fields, body, response }
    })
}

impl Response {
    /// The bytes, and whether the connection stays open after them.
    fn bytes(&self, is_head: bool) -> (Vec<u8>, bool) {
        let mut head = String::new();
        if self.interim {
            head.push_str("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        let _ = write!(head, "{} {} Phrase\r\n", self.version, self.status);
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let has_body = !is_head && !matches!(self.status, 204 | 304);
        let mut body = Vec::new();
        match self.framing {
            Framing::Length => {
                let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
                body.extend(&self.body);
            }
            Framing::Chunked => {
                head.push_str("Transfer-Encoding: chunked\r\n");
                for chunk in self.body.chunks(7_000) {
                    body.extend(format!("{:x};ext=1\r\n", chunk.len()).into_bytes());
                    body.extend(chunk);
                    body.extend(b"\r\n");
                }
                body.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
            }
            Framing::UntilClose => body.extend(&self.body),
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if has_body {
            bytes.extend(body);
        }
        bytes.truncate(bytes.len() - self.cut.min(bytes.len()));
        let is_whole = self.cut == 0;
        if is_whole && self.framing != Framing::UntilClose {
            bytes.extend(self.extra.as_bytes());
        }
        let is_open = is_whole && (self.framing != Framing::UntilClose || !has_body) && self.version == "HTTP/1.1";
        (bytes, is_open)
    }
}

/// An upstream that answers with the response of the current case, and records what it receives.
struct Scripted {
    url: String,
    response: Arc<Mutex<Option<Response>>>,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Scripted {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = Self { url, response: Arc::default(), received: Arc::default() };
        let (response, received) = (Arc::clone(&upstream.response), Arc::clone(&upstream.received));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (response, received) = (Arc::clone(&response), Arc::clone(&received));
                std::thread::spawn(move || serve(&stream.unwrap(), &response, &received));
            }
        });
        upstream
    }

    fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.received.lock().unwrap())
    }
}

fn serve(stream: &TcpStream, response: &Mutex<Option<Response>>, received: &Mutex<Vec<Message>>) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(head) = read_head(&mut reader) {
        let Some(body) = read_body(&mut reader, &head) else { return };
        received.lock().unwrap().push(Message::new(&head, body, true));
        let response = response.lock().unwrap().clone().unwrap();
        let (bytes, is_open) = response.bytes(head.starts_with("HEAD "));
        for piece in bytes.chunks(response.piece.min(bytes.len().max(1))) {
            if writer.write_all(piece).is_err() {
                return;
            }
        }
        if !is_open {
            return;
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {:?}, {} bytes, {}", self.line, self.fields, self.body.len(), self.is_complete)
    }
}

impl Message {
    fn new(head: &str, body: Vec<u8>, is_complete: bool) -> Self {
        let mut lines = head.lines();
        // The version is that of the gateway or that of the upstream.
        let line = lines.next().unwrap_or_default();
        let line = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 ")).unwrap_or(line).to_owned();
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let name = name.to_ascii_lowercase();
            // `Date` is that of the gateway or that of the upstream; the framing is compared by the body.
            if !matches!(&*name, "date" | "connection" | "transfer-encoding") {
                fields.entry(name).or_default().push(value.trim().to_owned());
            }
        }
        Self { line, fields, body, is_complete }
    }

    /// The messages in the bytes of a connection that was closed.
    fn read_all(mut bytes: &[u8], is_head: bool) -> Vec<Self> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                messages.push(Self::new("", bytes.to_vec(), false));
                break;
            };
            let head = String::from_utf8(bytes[..end + 2].to_vec()).unwrap();
            bytes = &bytes[end + 4..];
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            let lower = head.to_ascii_lowercase();
            let (body, is_complete, rest): (Vec<u8>, bool, &[u8]) =
                if status < 200 || is_head || matches!(status, 204 | 304) {
                    (Vec::new(), true, bytes)
                } else if lower.contains("transfer-encoding: chunked") {
                    let mut reader = bytes;
                    match read_body(&mut reader, "transfer-encoding: chunked") {
                        Some(body) => (body, true, reader),
                        None => (Vec::new(), false, &[]),
                    }
                } else if let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length: ")) {
                    let length: usize = length.parse().unwrap();
                    let end = length.min(bytes.len());
                    (bytes[..end].to_vec(), length == end, &bytes[end..])
                } else {
                    (bytes.to_vec(), true, &[])
                };
            bytes = rest;
            messages.push(Self::new(&head, body, is_complete));
        }
        messages
    }
}

struct Path {
    keygate: Keygate,
    upstream: Scripted,
}

impl Path {
    fn start(fast_path: bool) -> Self {
        let upstream = Scripted::start();
        Self { keygate: serve_path(fast_path, &upstream.url), upstream }
    }

    /// Sends a request, and returns what the client and the upstream have received.
    fn exchange(&self, case: &Case) -> (Vec<Message>, Vec<Message>) {
        *self.upstream.response.lock().unwrap() = Some(case.response.clone());
        let address = self.keygate.gateway.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(keygate_test_servers::WAIT_TIMEOUT)).unwrap();
        let mut head = format!("{} /a?b=c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", case.method);
        for (name, value) in case.fields.iter().filter(|(name, _)| name != "X-Request-Id") {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("X-Request-Id: of-the-client\r\n");
        if let Some(body) = &case.body {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        stream.write_all(&[head.as_bytes(), case.body.as_deref().unwrap_or_default()].concat()).unwrap();
        let mut bytes = Vec::new();
        // A response that breaks off may end with a reset.
        let _ = stream.read_to_end(&mut bytes);
        (Message::read_all(&bytes, case.method == "HEAD"), self.upstream.take())
    }
}

#[tokio::test]
async fn generated_exchanges_are_the_same_on_both_paths() {
    let (fast, proxy) = (Path::start(true), Path::start(false));
    let mut runner = TestRunner::deterministic();
    let mut differences = Vec::new();
    for number in 0..CASES {
        let case = case().new_tree(&mut runner).unwrap().current();
        let (mut on_fast, forwarded_by_fast) = fast.exchange(&case);
        let (mut on_proxy, forwarded_by_proxy) = proxy.exchange(&case);
        for messages in [&mut on_fast, &mut on_proxy] {
            // After an interim response, pingora's proxy ends the connection in place of a final one.
            messages.retain(|message| !(case.response.interim && message.line.starts_with("502")));
        }
        for message in on_fast.iter_mut().chain(&mut on_proxy).filter(|message| !message.is_complete) {
            // How much of a response arrives that breaks off depends on the sizes of buffers.
            message.body.clear();
        }
        let forwarded =
            [without_authorities(&forwarded_by_fast, &fast), without_authorities(&forwarded_by_proxy, &proxy)];
        if forwarded[0] != forwarded[1] || on_fast != on_proxy {
            let response = Response { body: Vec::new(), ..case.response.clone() };
            let shown = Case { body: None, response, ..case };
            differences.push(format!("case {number}: {shown:?}\n{forwarded:?}\n{on_fast:?}\n{on_proxy:?}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences[..differences.len().min(9)].join("\n\n")
    );
}

/// The messages without what names the address of an upstream.
fn without_authorities(messages: &[Message], path: &Path) -> Vec<Message> {
    let authority = path.upstream.url.trim_start_matches("http://");
    let mut messages = messages.to_vec();
    for value in messages.iter_mut().flat_map(|message| message.fields.values_mut()).flatten() {
        *value = value.replace(authority, "upstream");
    }
    messages
}
