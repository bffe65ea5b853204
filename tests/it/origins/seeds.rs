//! The requests that are mutated. `/smuggled` occurs only where it is not the target of a request.

/// A request that must not be seen.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// Lines that frame a body, or seem to, and lines that other programs understand in other ways.
pub(super) const LINES: &[&str] = &[
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: 5, 5",
    "Content-Length: 5, 6",
    "Content-Length: +5",
    "Content-Length: 0x5",
    "Content-Length: 005",
    "Content-Length : 5",
    "Content-Length:\u{b}5",
    "content-length: 18446744073709551621",
    "Content_Length: 5",
    "X-Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer_Encoding: chunked",
    "TE: trailers, chunked",
    "Trailer: Content-Length, Host",
    "Connection: Content-Length",
    "Connection: close, Transfer-Encoding",
    "Connection: Host, X-Request-Id",
    "Connection: keep-alive",
    "Keep-Alive: timeout=100",
    "Proxy-Connection: keep-alive",
    "Expect: 100-continue",
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, HTTP2-Settings",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Host: h",
    "Host: other",
    "Host:",
    "X: a\r\n b",
    "X: a\rGET /smuggled HTTP/1.1",
    "X: a\nGET /smuggled HTTP/1.1",
    "X: a%0d%0aGET /smuggled HTTP/1.1",
    "X: \u{10a}\u{20d}\u{20a}GET /smuggled HTTP/1.1",
    "X-HTTP-Method-Override: GET",
    "X-Original-URL: /smuggled",
    "Range: bytes=0-",
];

/// The valid requests with which mutations begin.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let head = |line: &str, lines: &[&str]| {
        let lines: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        format!("{line} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
    };
    let length = |line: &str, body: &str| {
        let value = format!("Content-Length: {}", body.len());
        head(line, &[&value]) + body
    };
    let chunks = |line: &str, body: &str| head(line, &["Transfer-Encoding: chunked"]) + body;
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
    let get = head("GET /echo/a", &[]);
    let texts = [
        get.clone(),
        head("GET /echo/a?x=/smuggled&y=%20HTTP/1.1%0d%0aGET%20/smuggled", &[]),
        head("GET /echo/a", &["X: GET /smuggled HTTP/1.1", "Y: %0d%0aGET /smuggled HTTP/1.1"]),
        head("GET http://h/echo/a", &["Accept: */*"]),
        head("OPTIONS *", &[]) + &get,
        "GET /echo/a HTTP/1.0\r\nHost: h\r\n\r\n".to_owned(),
        format!("POST /echo/a HTTP/1.0\r\nHost: h\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
        length("POST /echo/a", SMUGGLED),
        length("POST /echo/a", SMUGGLED) + &get,
        length("GET /echo/a", SMUGGLED) + &get,
        length("HEAD /echo/a", SMUGGLED) + &get,
        length("PUT /echo/a", &format!("\r\n{SMUGGLED}")) + &length("DELETE /echo/b", SMUGGLED),
        length("POST /echo/a", &format!("0\r\n\r\n{SMUGGLED}")) + &get,
        length("POST /echo/a", &chunk(SMUGGLED)) + &get,
        chunks("POST /echo/a", &(chunk(SMUGGLED) + "0\r\n\r\n")) + &get,
        chunks("POST /echo/a", &(chunk("abc") + &chunk(&format!("0\r\n\r\n{SMUGGLED}")) + "0\r\n\r\n")) + &get,
        chunks("GET /echo/a", &(chunk(&format!("\r\n0\r\n\r\n{SMUGGLED}")) + "0\r\n\r\n")) + &get,
        chunks("POST /echo/a", &format!("3;GET /smuggled HTTP/1.1\r\nabc\r\n0;x=\"{}\"\r\n\r\n", "a".repeat(100)))
            + &get,
        chunks("POST /echo/a", "2\r\nab\r\n0\r\nX: GET /smuggled HTTP/1.1\r\nContent-Length: 3\r\n\r\n") + &get,
        head("POST /echo/a", &["Expect: 100-continue", "Content-Length: 2"]) + "ab" + &get,
        head("GET /echo/a", &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]) + &get,
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
