//! Requests of HTTP/1.1: what the front door of the gateway forwards has one meaning.

use keygate::config::ListenerLimits;
use keygate::gateway::{Forwarded, ForwardedRequest, forward};

/// A request after the one under test.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
/// No input makes a head that exceeds a limit if it is a part of one and no longer than this.
const PART_MAX: usize = 7 * 1024;

/// The fields of a head that frame a message.
#[derive(Default)]
struct Framing<'h> {
    hosts: usize,
    lengths: Vec<&'h [u8]>,
    codings: Vec<&'h [u8]>,
}

/// What is forwarded is unambiguous, parses to itself and does not depend on the pieces in which it arrives, whether the input is a
/// connection, a body or a part of a head; and a body passes unchanged.
pub fn http1_request(bytes: &[u8]) {
    check(bytes);
    check_length(bytes);
    check_chunks(bytes);
    if bytes.len() <= PART_MAX {
        check_value(bytes);
        check_target(bytes);
    }
}

/// The requests that are forwarded of the bytes of a connection.
fn check(bytes: &[u8]) -> Forwarded {
    let limits = ListenerLimits::default();
    let whole = forward([bytes], &limits);
    for size in [1, 3, 64, bytes.len() / 2 + 1] {
        let pieces = forward(bytes.chunks(size), &limits);
        assert_eq!(pieces.refusal.is_some(), whole.refusal.is_some(), "{pieces:?} {whole:?}");
        assert_eq!(decided(&pieces), decided(&whole));
    }
    whole.requests.iter().for_each(check_request);
    let forwarded: Vec<u8> =
        whole.requests.iter().flat_map(|request| [&request.head[..], &request.body]).flatten().copied().collect();
    // A blank after a colon and the `Host` of a target are added.
    let wider = ListenerLimits { head_bytes: limits.head_bytes * 2, head_fields: limits.head_fields + 1, ..limits };
    let again = forward([&forwarded[..]], &wider);
    assert_eq!(again, Forwarded { requests: whole.requests.clone(), refusal: None });
    whole
}

/// The heads, and the bodies unless one was cut by a refusal: how much of it was forwarded until then depends on the pieces.
fn decided(forwarded: &Forwarded) -> Vec<(&[u8], Option<&[u8]>)> {
    let is_decided = |request: &ForwardedRequest| request.is_complete || forwarded.refusal.is_none();
    let requests = forwarded.requests.iter();
    requests.map(|request| (&request.head[..], is_decided(request).then_some(&request.body[..]))).collect()
}

/// Reads a request as it is forwarded in the plainest way, without the parser under test.
fn check_request(request: &ForwardedRequest) {
    let head = request.head.strip_suffix(b"\r\n\r\n").expect("an empty line ends a head");
    let lines = lines(head);
    for line in &lines {
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{request:?}");
    }
    let (line, fields) = lines.split_first().expect("a head has a request line");
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { panic!("{request:?}") };
    assert!(is_token(method), "{request:?}");
    assert!(target == b"*" || target.starts_with(b"/"), "{request:?}");
    assert!(target.iter().all(u8::is_ascii_graphic), "{request:?}");
    assert!(version == b"HTTP/1.1" || version == b"HTTP/1.0", "{request:?}");
    let mut framing = Framing::default();
    for field in fields {
        let colon = field.iter().position(|byte| *byte == b':').expect("a field has a colon");
        let (name, value) = (&field[..colon], field[colon..].strip_prefix(b": ").expect("a blank follows a colon"));
        assert!(is_token(name), "{request:?}");
        assert_eq!(value, trimmed(value), "{request:?}");
        match &name.to_ascii_lowercase()[..] {
            b"host" => framing.hosts += 1,
            b"content-length" => framing.lengths.push(value),
            b"transfer-encoding" => framing.codings.push(value),
            _ => {}
        }
    }
    assert!(framing.hosts == 1 || framing.hosts == 0 && version == b"HTTP/1.0", "{request:?}");
    match (&framing.lengths[..], &framing.codings[..]) {
        ([], []) => assert!(request.is_complete && request.body.is_empty(), "{request:?}"),
        ([length], []) => {
            let length: u64 = str::from_utf8(length).expect("digits").parse().expect("a number");
            assert_eq!(request.body.len() as u64 == length, request.is_complete, "{request:?}");
            assert!(request.body.len() as u64 <= length, "{request:?}");
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && version == b"HTTP/1.1", "{request:?}");
            assert_eq!(data(&request.body).is_some(), request.is_complete, "{request:?}");
        }
        _ => panic!("more than one framing: {request:?}"),
    }
}

/// The data of a chunked body that has neither extensions nor trailers; `None` if it is not complete.
fn data(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let digits = str::from_utf8(&body[..end]).expect("digits");
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digits:?}");
        let size = u64::from_str_radix(digits, 16).expect("a number");
        body = &body[end + 2..];
        if size == 0 {
            assert!(b"\r\n".starts_with(body), "{body:?}");
            return (body.len() == 2).then_some(data);
        }
        let size = usize::try_from(size).ok().filter(|size| *size < body.len())?;
        data.extend_from_slice(&body[..size]);
        let rest = &body[size..];
        body = rest.strip_prefix(b"\r\n").or_else(|| {
            assert_eq!(rest, b"\r");
            None
        })?;
    }
}

/// A body of any bytes with a length passes unchanged, and the next request begins after it.
fn check_length(bytes: &[u8]) {
    let head = format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", bytes.len());
    let forwarded = check(&[head.as_bytes(), bytes, NEXT].concat());
    assert_eq!(forwarded.refusal, None);
    assert_eq!(forwarded.requests.len(), 2);
    assert_eq!(forwarded.requests[0].body, bytes);
    assert_eq!(&forwarded.requests[1].head[..], NEXT);
}

/// The same in chunks.
fn check_chunks(bytes: &[u8]) {
    let mut sent = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in bytes.chunks(usize::from(bytes.first().copied().unwrap_or_default()) + 1) {
        sent.extend([format!("0{:X};a=\"b\"\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    sent.extend([b"00;c\r\nHost: trailer\r\nContent-Length: 1\r\n\r\n", NEXT].concat());
    let forwarded = check(&sent);
    assert_eq!(forwarded.refusal, None);
    assert_eq!(forwarded.requests.len(), 2);
    assert_eq!(data(&forwarded.requests[0].body).as_deref(), Some(bytes));
    assert_eq!(&forwarded.requests[1].head[..], NEXT);
}

/// The value of a field: without line ends it is that value or the request is refused.
fn check_value(bytes: &[u8]) {
    let sent = [b"GET /a HTTP/1.1\r\nHost: h\r\nX: ", bytes, b"\r\n\r\n", NEXT].concat();
    let forwarded = check(&sent);
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return;
    }
    let is_valid = bytes.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
    assert_eq!(forwarded.requests.len(), if is_valid { 2 } else { 0 }, "{forwarded:?}");
    if is_valid {
        let expected = [b"GET /a HTTP/1.1\r\nHost: h\r\nX: ", trimmed(bytes), b"\r\n\r\n"].concat();
        assert_eq!(forwarded.requests[0].head, expected);
    }
}

/// A part of the target: without line ends it is that part or the request is refused.
fn check_target(bytes: &[u8]) {
    let sent = [b"GET /", bytes, b" HTTP/1.1\r\nHost: h\r\n\r\n", NEXT].concat();
    let forwarded = check(&sent);
    let is_valid = bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    if is_valid {
        assert_eq!(forwarded.requests.len(), 2, "{forwarded:?}");
        assert_eq!(forwarded.requests[0].head, sent[..sent.len() - NEXT.len()]);
    } else if !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        assert_eq!(forwarded.requests, []);
    }
}

fn lines(head: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// The value of a field without the blanks around it.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}
