//! The upstream: sends one of two fixed responses to all requests, with as little CPU time as possible.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::machine::Cores;
use crate::server::Server;
use keygate_test_servers::free_port;

/// Called with this argument and an address, this program runs as the upstream.
pub(crate) const ARGUMENT: &str = "--upstream";
/// The size of the response body, in bytes.
const BODY: usize = 1024;
/// The path with chunked responses. Responses for all other paths have a `Content-Length`.
pub(crate) const CHUNKED_PATH: &str = "/chunked";
/// The number of chunks of a chunked response.
const CHUNKS: usize = 4;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Starts this program as the upstream in a new process, on the core of the load generator.
pub(crate) fn start() -> Server {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Cores::Load.command(&std::env::current_exe().unwrap());
    command.args([ARGUMENT, &address]).stdout(Stdio::null());
    Server::start("upstream", command, address).expect("the upstream should start")
}

/// Runs the upstream on one thread. Does not return.
pub(crate) fn serve(address: &str) {
    Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Connection errors are ignored: clients may disconnect at any time.
            tokio::spawn(async move { drop(serve_connection(stream).await) });
        }
    });
}

async fn serve_connection(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (plain, chunked) = (plain_response(), chunked_response());
    let chunked_start = format!("GET {CHUNKED_PATH} ");
    let mut buffer = vec![0; 16 * 1024];
    let (mut kept, mut responses) = (0, Vec::new());
    loop {
        let read = stream.read(&mut buffer[kept..]).await?;
        if read == 0 {
            return Ok(());
        }
        let (mut start, end) = (0, kept + read);
        responses.clear();
        while let Some(length) = buffer[start..end].windows(HEAD_END.len()).position(|window| window == HEAD_END) {
            let is_chunked = buffer[start..].starts_with(chunked_start.as_bytes());
            responses.extend_from_slice(if is_chunked { chunked.as_bytes() } else { plain.as_bytes() });
            start += length + HEAD_END.len();
        }
        stream.write_all(&responses).await?;
        // Keep the beginning of an incomplete request.
        buffer.copy_within(start..end, 0);
        kept = end - start;
    }
}

fn plain_response() -> String {
    let body = "x".repeat(BODY);
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n{body}")
}

fn chunked_response() -> String {
    let size = BODY / CHUNKS;
    let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
    let body = chunk.repeat(CHUNKS);
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n")
}
