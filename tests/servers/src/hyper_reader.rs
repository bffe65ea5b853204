//! What hyper reads in bytes: the requests of a connection as its server, and a response as its client.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::header::HeaderMap;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

/// The maximum number of fields of a head: more than Keygate takes.
const FIELDS_MAX: usize = 512;

/// Fields with names in lower case, sorted.
type ReadFields = Vec<(String, Vec<u8>)>;

/// A request as a recipient understands it, with its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The method.
    pub method: String,
    /// The target in the form in which it was sent.
    pub target: String,
    /// The fields.
    pub fields: ReadFields,
    /// The decoded body.
    pub body: Vec<u8>,
}

/// A response as a client understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadResponse {
    /// The status.
    pub status: u16,
    /// The fields.
    pub fields: ReadFields,
    /// The decoded body, as far as it was read.
    pub body: Vec<u8>,
    /// The fields after the body.
    pub trailers: ReadFields,
    /// Why the body is not complete.
    pub failure: Option<String>,
}

/// How the reading of a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// After a request, or before the first one.
    Closed,
    /// With bytes that are not a request.
    Rejected,
    /// Within a request.
    Incomplete,
}

/// The requests that hyper reads before the end of the bytes or of the connection.
pub fn read_requests(bytes: &[u8]) -> (Vec<ReadRequest>, ReadEnd) {
    let read = Arc::new(Mutex::new(Vec::new()));
    let end = block_on(async {
        let (mut sender, receiver) = tokio::io::duplex(bytes.len() + 64 * 1024);
        sender.write_all(bytes).await.expect("there is room");
        sender.shutdown().await.expect("the other side is there");
        // It also holds the responses.
        serve_reader(receiver, &read).await
    });
    let read = std::mem::take(&mut *read.lock().expect("no reader panics"));
    (read, end)
}

/// Reads requests from a connection, and answers each with 200 and an empty body.
pub async fn serve_reader(stream: impl AsyncRead + AsyncWrite + Unpin, read: &Arc<Mutex<Vec<ReadRequest>>>) -> ReadEnd {
    let service = service_fn(|request: Request<Incoming>| {
        let read = Arc::clone(read);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            let (method, target) = (head.method.to_string(), head.uri.to_string());
            let request = ReadRequest { method, target, fields: sorted(&head.headers), body };
            read.lock().expect("no reader panics").push(request);
            Ok::<_, hyper::Error>(Response::new(String::new()))
        }
    });
    let mut builder = server::Builder::new();
    builder.half_close(true).max_headers(FIELDS_MAX);
    match builder.serve_connection(TokioIo::new(stream), service).await {
        Ok(()) => ReadEnd::Closed,
        Err(error) if error.is_parse() => ReadEnd::Rejected,
        Err(_) => ReadEnd::Incomplete,
    }
}

/// The final response that hyper reads in the answer to a request with this method. The connection ends after the bytes.
///
/// # Errors
/// Why there is no head of a response.
pub fn read_response(method: &str, bytes: &[u8]) -> Result<ReadResponse, String> {
    let request = Request::builder().method(method).uri("/").header("host", "h").body(Empty::<Bytes>::new());
    let request = request.expect("the request is valid");
    block_on(async {
        let (near, far) = tokio::io::duplex(bytes.len() + 64 * 1024);
        let (mut sender, connection) = client::Builder::new()
            .max_headers(FIELDS_MAX)
            .handshake(TokioIo::new(near))
            .await
            .map_err(|error| describe(&error))?;
        tokio::spawn(answer(far, bytes.to_vec()));
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| describe(&error))?;
        Ok(read_whole(response).await)
    })
}

/// Sends the bytes after the head of a request. The connection is not closed before the client closes it.
async fn answer(mut stream: DuplexStream, bytes: Vec<u8>) -> io::Result<()> {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        received.push(stream.read_u8().await?);
    }
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut received).await.map(drop)
}

/// Reads the body of a response.
async fn read_whole(response: Response<Incoming>) -> ReadResponse {
    let (head, mut body) = response.into_parts();
    let mut read = ReadResponse {
        status: head.status.as_u16(),
        fields: sorted(&head.headers),
        body: Vec::new(),
        trailers: Vec::new(),
        failure: None,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => read.body.extend_from_slice(&data),
            Ok(Err(other)) => read.trailers = other.trailers_ref().map(sorted).unwrap_or_default(),
            Err(error) => {
                read.failure = Some(describe(&error));
                break;
            }
        }
    }
    read
}

fn sorted(fields: &HeaderMap) -> ReadFields {
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    fields.sort();
    fields
}

/// An error with its causes.
fn describe(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", describe(cause)))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts").block_on(future)
}
