//! The upstream: answers whatever asks, with one fixed answer, as cheaply as it can be done.

use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::machine::{load_core, pinned};
use crate::server::Server;
use keygate_test_servers::free_port;

/// This program, called with this argument and an address, is the upstream.
pub(crate) const ARGUMENT: &str = "--upstream";
/// Bytes of the body.
const BODY: usize = 1024;
/// Requests that one read can bring, at the most: more are answered in several writes.
const PIPELINED: usize = 16;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Starts this program once more, as the upstream, on the core of the load.
pub(crate) fn start() -> Server {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command: Command = pinned(load_core(), &std::env::current_exe().unwrap());
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
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n{}", "x".repeat(BODY));
    let answers = answer.repeat(PIPELINED);
    let mut buffer = vec![0; 16 * 1024];
    let mut kept = 0;
    loop {
        let read = stream.read(&mut buffer[kept..]).await?;
        if read == 0 {
            return Ok(());
        }
        let end = kept + read;
        let mut heads = buffer[..end].windows(HEAD_END.len()).filter(|window| *window == HEAD_END).count();
        // What may be the first half of an end is looked at again with what comes next.
        kept = if buffer[..end].ends_with(HEAD_END) { 0 } else { end.min(HEAD_END.len() - 1) };
        buffer.copy_within(end - kept..end, 0);
        while heads > 0 {
            let now = heads.min(PIPELINED);
            stream.write_all(&answers.as_bytes()[..now * answer.len()]).await?;
            heads -= now;
        }
    }
}
