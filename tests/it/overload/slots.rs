//! An upstream with a number of slots: each request takes one for a fixed time, whatever the machine does meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::upstream::header;

/// How long a request takes.
pub(super) const SERVICE: Duration = Duration::from_millis(20);

/// A running upstream; it ends on drop.
pub(super) struct Slots {
    pub(super) url: String,
    _accepting: JoinSet<()>,
}

impl Slots {
    /// Starts an upstream with this number of slots.
    pub(super) async fn start(slots: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let free = Arc::new(Semaphore::new(slots));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&free)));
            }
        });
        Self { url, _accepting: accepting }
    }
}

/// Serves a connection until its end.
async fn serve(stream: TcpStream, free: Arc<Semaphore>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        stream.read_exact(&mut vec![0; length]).await?;
        let slot = free.acquire().await.unwrap();
        // The service itself.
        tokio::time::sleep(SERVICE).await;
        drop(slot);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
    }
}
