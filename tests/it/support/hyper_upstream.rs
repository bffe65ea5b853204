//! An upstream that is a server of hyper: it records the requests as hyper reads them, and the bytes that hyper does not read as one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use keygate_test_servers::{ReadEnd, ReadRequest, eventually, serve_reader};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Records requests. Each is answered with 200 and an empty body.
pub(crate) struct HyperUpstream {
    pub(crate) url: String,
    read: Arc<Mutex<Vec<ReadRequest>>>,
    rejected: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl HyperUpstream {
    /// Starts an upstream; it ends with the test process.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = Self { url, read: Arc::default(), rejected: Arc::default() };
        let (read, rejected) = (Arc::clone(&upstream.read), Arc::clone(&upstream.rejected));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (read, rejected) = (Arc::clone(&read), Arc::clone(&rejected));
                    tokio::spawn(async move {
                        let received = Arc::default();
                        let stream = RecordedStream { stream, received: Arc::clone(&received) };
                        if serve_reader(stream, &read).await == ReadEnd::Rejected {
                            rejected.lock().unwrap().push(std::mem::take(&mut *received.lock().unwrap()));
                        }
                    });
                }
            });
        });
        upstream
    }

    /// The requests since the last call.
    pub(crate) fn take(&self) -> Vec<ReadRequest> {
        std::mem::take(&mut self.read.lock().unwrap())
    }

    /// The last bytes that hyper has not read as a request, once there are any.
    pub(crate) fn take_rejected(&self) -> Vec<u8> {
        let mut taken = None;
        eventually("hyper rejects a request", || {
            taken = self.rejected.lock().unwrap().pop();
            taken.is_some()
        });
        taken.unwrap()
    }
}

/// A connection whose last bytes are recorded.
struct RecordedStream {
    stream: TcpStream,
    /// What was received after the last response.
    received: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for RecordedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        result
    }
}

impl AsyncWrite for RecordedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.starts_with(b"HTTP/1.1 200") {
            self.received.lock().unwrap().clear();
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
