//! Minimal clients of HTTP/1.1 and HTTP/2: they send targets and repeated fields as they are.

use std::fmt::Write;

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderName, HeaderValue};
use keygate_test_servers::WAIT_TIMEOUT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::listeners::AsyncStream;

/// A request as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) target: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: &'static str,
}

/// A response as it was received, with its names in lower case.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// The values of a field.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a request by HTTP/1.1 on a connection of its own and reads the response.
pub(crate) async fn exchange(mut stream: Box<dyn AsyncStream>, request: &Request) -> Response {
    let Request { method, host, target, fields, body } = request;
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in fields {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    text.push_str(body);
    let transfer = async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let bytes = timeout(WAIT_TIMEOUT, transfer).await.expect("a response in time");
    let bytes = bytes.unwrap_or_else(|error| panic!("{method} {target}: {error}"));
    let text = String::from_utf8(bytes).unwrap();
    parse(&text, *method == "HEAD").unwrap_or_else(|| panic!("{method} {target}: no response: {text:?}"))
}

/// The same by HTTP/2.
pub(crate) async fn exchange_http2(stream: Box<dyn AsyncStream>, scheme: &str, request: &Request) -> Response {
    let transfer = transfer_http2(stream, scheme, request);
    let response = timeout(WAIT_TIMEOUT, transfer).await.expect("a response in time");
    response.unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
}

async fn transfer_http2(stream: Box<dyn AsyncStream>, scheme: &str, request: &Request) -> Result<Response, h2::Error> {
    let (client, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let (response, mut sending) = client.send_request(head(scheme, request), request.body.is_empty())?;
    if !request.body.is_empty() {
        sending.send_data(Bytes::from_static(request.body.as_bytes()), true)?;
    }
    let (head, mut receiving) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = receiving.data().await {
        let data = data?;
        receiving.flow_control().release_capacity(data.len())?;
        body.extend(data);
    }
    drop((client, sending, receiving));
    connection.await.unwrap()?;
    let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(Response { status: head.status.as_u16(), fields, body: String::from_utf8(body).unwrap() })
}

fn head(scheme: &str, request: &Request) -> http::Request<()> {
    let target: PathAndQuery = request.target.parse().unwrap();
    let uri = Uri::builder().scheme(scheme).authority(request.host).path_and_query(target).build().unwrap();
    let mut head = http::Request::builder().method(request.method).uri(uri).body(()).unwrap();
    let value = |value: &str| HeaderValue::from_bytes(value.as_bytes()).unwrap();
    for (name, text) in &request.fields {
        head.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value(text));
    }
    if !request.body.is_empty() {
        head.headers_mut().insert(http::header::CONTENT_LENGTH, value(&request.body.len().to_string()));
    }
    head
}

/// The response to a HEAD request has no body, also if its fields describe one.
fn parse(text: &str, is_head: bool) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let fields: Vec<_> = lines.map(field).collect::<Option<_>>()?;
    let is_chunked = fields.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if is_chunked && !is_head { unchunk(body)? } else { body.to_owned() };
    Some(Response { status, fields, body })
}

/// The content of a chunked body (RFC 9112 section 7.1).
fn unchunk(mut rest: &str) -> Option<String> {
    let mut content = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(content);
        }
        content.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}
