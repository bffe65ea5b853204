//! A connection of a blocking HTTP/1.1 client that is used for one request after another.

use std::io::{BufRead, BufReader, Read, Write};

use super::client_stream::ClientStream;

/// A connection that is kept.
pub(crate) struct KeptConnection(BufReader<ClientStream>);

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Whether the connection ends with the response.
    pub(crate) fn is_last(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }
}

impl KeptConnection {
    /// Connects to the port of a URL on loopback.
    pub(crate) fn open(url: &str) -> Self {
        Self::on(ClientStream::tcp(url.rsplit(':').next().unwrap().parse().unwrap()))
    }

    /// On an open connection.
    pub(crate) fn on(stream: ClientStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// Sends a GET request with more fields, each with its line end, and waits for the response.
    pub(crate) fn get(&mut self, path: &str, fields: &str) -> Answer {
        self.send(path, fields);
        self.answer()
    }

    /// Sends a GET request.
    pub(crate) fn send(&mut self, path: &str, fields: &str) {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: api.example.com\r\n{fields}\r\n").unwrap();
    }

    /// Sends a POST request with a body of JSON, and returns the status of the response, which has no body.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> u16 {
        let length = body.len();
        let stream = self.0.get_mut();
        let fields = "Host: localhost\r\nContent-Type: application/json";
        write!(stream, "POST {path} HTTP/1.1\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let head = self.head();
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Waits for a response.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "the connection was closed after {head:?}");
        }
        head.to_ascii_lowercase()
    }

    /// Waits for the end of the connection.
    pub(crate) fn ends(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}
