//! Questions of proxies over plain HTTP/1.1, byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use keygate_test_servers::WAIT_TIMEOUT;
use serde_json::Value;

use super::Fixture;
use crate::support::upstream::header;

/// Which proxy sends the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxy {
    Nginx,
    Ingress,
    Forward,
    Envoy,
}

/// All of them.
pub(super) const PROXIES: [Proxy; 4] = [Proxy::Nginx, Proxy::Ingress, Proxy::Forward, Proxy::Envoy];

/// What a proxy gets.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Proxy {
    /// The head of a request about a request; `line` is its method and target, `fields` are more lines.
    pub(super) fn request(self, line: &str, fields: &str) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let host = "api.example.com";
        match self {
            Self::Nginx => format!(
                "GET /nginx HTTP/1.1\r\nHost: {host}\r\nX-Original-Method: {method}\r\nX-Original-URI: {target}\r\n\
                 X-Original-Host: {host}\r\nX-Real-IP: 203.0.113.7\r\n{fields}\r\n"
            ),
            Self::Ingress => format!(
                "GET /nginx HTTP/1.1\r\nHost: keygate:8081\r\nX-Original-Method: {method}\r\n\
                 X-Original-URL: https://{host}{target}\r\nX-Forwarded-For: 203.0.113.7\r\n{fields}\r\n"
            ),
            Self::Forward => format!(
                "GET /forward HTTP/1.1\r\nHost: keygate:8081\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: {host}\r\nX-Forwarded-Uri: {target}\r\nX-Forwarded-For: 10.1.1.1, 203.0.113.7\r\n{fields}\r\n"
            ),
            Self::Envoy => format!(
                "{method} /envoy{target} HTTP/1.1\r\nHost: {host}\r\nX-Envoy-External-Address: 203.0.113.7\r\n\
                 Content-Length: 0\r\n{fields}\r\n"
            ),
        }
    }

    pub(super) fn is_nginx(self) -> bool {
        matches!(self, Self::Nginx | Self::Ingress)
    }
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> &str {
        header(&self.head, name).unwrap_or_default()
    }

    /// The status for the client and the code of a rejection, in the form of the proxy's endpoint.
    pub(super) fn rejection(&self, proxy: Proxy) -> (u16, String) {
        assert_eq!(self.field("cache-control"), "no-store", "{self:?}");
        assert!(!self.field("x-request-id").is_empty(), "{self:?}");
        if proxy.is_nginx() {
            assert!(matches!(self.status, 401 | 403) && self.body.is_empty(), "{self:?}");
            let status = self.field("x-keygate-status").parse().unwrap();
            assert_eq!(self.status == 401, status == 401, "{self:?}");
            return (status, self.field("x-keygate-denial").to_owned());
        }
        assert_eq!(self.field("content-type"), "application/problem+json", "{self:?}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        (self.status, problem["code"].as_str().unwrap().to_owned())
    }
}

impl Fixture {
    /// Sends a check on a new connection.
    pub(super) fn check(&self, proxy: Proxy, line: &str, fields: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        exchange(&mut stream, &proxy.request(line, fields))
    }

    /// Sends a check of a request with a key as bearer token.
    pub(super) fn check_with_key(&self, proxy: Proxy, line: &str, key: &str) -> Answer {
        self.check(proxy, line, &format!("Authorization: Bearer {key}\r\n"))
    }
}

/// Sends bytes and reads one response.
pub(super) fn exchange<S: Read + Write>(stream: &mut S, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection was closed after {head:?}");
    }
    let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
}
