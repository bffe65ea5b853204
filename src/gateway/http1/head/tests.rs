use super::*;

fn parse(head: &str) -> Result<Head, HeadError> {
    Head::parse(head.as_bytes(), &ListenerLimits::default())
}

/// A request with these lines after the request line.
fn with(line: &str, fields: &[&str]) -> String {
    [&[line], fields, &["", ""]].concat().join("\r\n")
}

#[test]
fn head_is_serialized_in_one_way() {
    for (line, fields, expected) in [
        ("GET / HTTP/1.1", &["host:a"][..], "GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("GET /?q HTTP/1.0", &["X: \t y \t"], "GET /?q HTTP/1.0\r\nX: y\r\n\r\n"),
        (
            "PUT / HTTP/1.1",
            &["Host: a", "content-length: 007", "Content-Length: 7, 7", "A: b"],
            "PUT / HTTP/1.1\r\nHost: a\r\nA: b\r\nContent-Length: 7\r\n\r\n",
        ),
        (
            "POST / HTTP/1.1",
            &["Host: a", "transfer-encoding: CHUNKED"],
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1",
            &["Host: a", "Upgrade: h2c", "HTTP2-Settings: x", "Connection: upgrade"],
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1",
            &["Host: a", "Upgrade: WebSocket", "Connection: upgrade"],
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n",
        ),
        ("GET / HTTP/1.1", &["Host: a", "X:"], "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"),
        ("GET http://A:1/x HTTP/1.1", &["Host: a:1"], "GET /x HTTP/1.1\r\nHost: a:1\r\n\r\n"),
        ("GET HTTPS://a?q HTTP/1.0", &[], "GET /?q HTTP/1.0\r\nHost: a\r\n\r\n"),
        ("OPTIONS http://a HTTP/1.1", &["Host: a"], "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("OPTIONS * HTTP/1.1", &["Host: a"], "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let head = parse(&with(line, fields)).unwrap();
        assert_eq!(String::from_utf8_lossy(&head.bytes), expected);
    }
}

#[test]
fn body_is_framed_by_length_or_chunks() {
    for (fields, body) in [
        (&[][..], Body::Done),
        (&["Content-Length: 0"], Body::Done),
        (&["Content-Length: 12"], Body::Length(12)),
        (&["Content-Length: 12,12", "Content-Length: 12"], Body::Length(12)),
        (&["Transfer-Encoding: chunked"], Body::chunked()),
    ] {
        let fields = [&["Host: a"], fields].concat();
        assert_eq!(parse(&with("POST / HTTP/1.1", &fields)).unwrap().body, body);
    }
}

#[test]
fn malformed_heads_are_refused() {
    let get = "GET / HTTP/1.1";
    for (line, fields, error) in [
        (get, &[][..], HeadError::Host),
        (get, &["Host: a", "Host: a"], HeadError::Host),
        (get, &["Host: a b"], HeadError::Host),
        (get, &["Host: a@b"], HeadError::Host),
        (get, &["Host: a,b"], HeadError::Host),
        (get, &["Host: a/b"], HeadError::Host),
        (get, &["Host: a:b"], HeadError::Host),
        (get, &["Host: [::1"], HeadError::Host),
        ("GET http://b/ HTTP/1.1", &["Host: a"], HeadError::Host),
        ("GET http://a:80/ HTTP/1.1", &["Host: a"], HeadError::Host),
        ("GET http://u@a/ HTTP/1.1", &["Host: u@a"], HeadError::Target),
        ("GET http:///x HTTP/1.1", &["Host: a"], HeadError::Target),
        ("GET ftp://a/ HTTP/1.1", &["Host: a"], HeadError::Target),
        ("GET * HTTP/1.1", &["Host: a"], HeadError::Target),
        ("GET a:80 HTTP/1.1", &["Host: a"], HeadError::Target),
        ("GET /#x HTTP/1.1", &["Host: a"], HeadError::Target),
        ("GET /\u{e9} HTTP/1.1", &["Host: a"], HeadError::Target),
        ("CONNECT a:80 HTTP/1.1", &["Host: a"], HeadError::Method),
        ("TRACE / HTTP/1.1", &["Host: a"], HeadError::Method),
        ("GET  / HTTP/1.1", &["Host: a"], HeadError::RequestLine),
        ("GET /  HTTP/1.1", &["Host: a"], HeadError::RequestLine),
        ("GET / x HTTP/1.1", &["Host: a"], HeadError::RequestLine),
        ("GET / HTTP/1.1 ", &["Host: a"], HeadError::FieldValue),
        (" GET / HTTP/1.1", &["Host: a"], HeadError::RequestLine),
        ("GET / HTTP/2.0", &["Host: a"], HeadError::Version),
        ("GET / HTTP/1.2", &["Host: a"], HeadError::Version),
        ("GET / HTTPS/1.1", &["Host: a"], HeadError::RequestLine),
        ("GET /", &["Host: a"], HeadError::RequestLine),
        (get, &["Host: a", "A : b"], HeadError::FieldName),
        (get, &["Host: a", ": b"], HeadError::FieldName),
        (get, &["Host: a", "A(: b"], HeadError::FieldName),
        (get, &["Host: a", "A: b", " c"], HeadError::FieldName),
        (get, &["Host: a", "A: b\0"], HeadError::FieldValue),
        (get, &["Host: a", "A: b\rc"], HeadError::FieldValue),
        (get, &["Host: a", "Content-Length: +1"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: -1"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: 0x1"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: 1 1"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length:"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: 1,2"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: 1,"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: 1", "Content-Length: 2"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: 18446744073709551616"], HeadError::ContentLength),
        (get, &["Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"], HeadError::TransferEncoding),
        (get, &["Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], HeadError::TransferEncoding),
        (get, &["Host: a", "Transfer-Encoding: chunked, chunked"], HeadError::TransferEncoding),
        (get, &["Host: a", "Transfer-Encoding: gzip, chunked"], HeadError::TransferEncoding),
        (get, &["Host: a", "Transfer-Encoding: identity"], HeadError::TransferEncoding),
        (get, &["Host: a", "Transfer-Encoding:"], HeadError::TransferEncoding),
        (get, &["Host: a", "Transfer-Encoding: \u{b}chunked"], HeadError::FieldValue),
        ("GET / HTTP/1.0", &["Host: a", "Transfer-Encoding: chunked"], HeadError::TransferEncoding),
    ] {
        assert_eq!(parse(&with(line, fields)).unwrap_err(), error, "{line} {fields:?}");
    }
    let long = format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024));
    assert_eq!(parse(&with(&long, &["Host: a"])).unwrap_err(), HeadError::TargetTooLong);
}

#[test]
fn serialized_head_is_parsed_to_itself() {
    let text = with("POST /a?b HTTP/1.1", &["Host: a", "A:b", "Content-Length: 3, 3"]);
    let head = parse(&text).unwrap();
    let again = Head::parse(&head.bytes, &ListenerLimits::default()).unwrap();
    assert_eq!((head.bytes, head.body), (again.bytes, again.body));
}
