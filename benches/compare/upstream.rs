//! The upstream: answers all requests with one of two fixed responses, at the lowest cost.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::machine::Cores;
use crate::server::Server;
use keygate_test_servers::free_port;

/// This program, called with this argument and an address, is the upstream.
pub(crate) const ARGUMENT: &str = "--upstream";
/// Bytes of the body.
const BODY: usize = 1024;
/// The path whose responses are chunked. All others have a `Content-Length`.
pub(crate) const CHUNKED_PATH: &str = "/chunked";
/// The number of chunks of a chunked response.
const CHUNKS: usize = 4;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Starts this program once more, as the upstream, on the core of the load.
pub(crate) fn start() -> Server {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Cores::Load.command(&std::env::current_exe().unwrap());
    command.args([ARGUMENT, &address]).stdout(Stdio::null());
    Server::start("upstream", command, address).expect("the upstream listens")
}

/// Serves until the process is ended. One thread.
pub(crate) fn serve(address: &str) {
    Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that goes away in the middle is none of our business.
            tokio::spawn(async move { drop(answer(stream).await) });
        }
    });
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
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
        // The start of another head.
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
