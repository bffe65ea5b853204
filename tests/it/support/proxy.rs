//! A TCP proxy that injects network faults: delays, stalls, resets.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// What the proxy does with bytes, in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// Forwards them.
    Forward,
    /// Forwards them after a delay.
    Delay(Duration),
    /// Holds them until the mode changes; connections are accepted.
    Stall,
    /// Holds those of connections that exist already; new connections are forwarded.
    StallExisting,
    /// Resets all connections, existing and new.
    Reset,
}

/// A proxy to a port on loopback; it ends when dropped.
pub(crate) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// Starts a proxy to `port` that forwards.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (mode, follow) = watch::channel(Mode::Forward);
        let sent = Arc::default();
        let recorded = Arc::clone(&sent);
        // On its own thread, because tests block theirs.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, port, follow, recorded));
        });
        Self { port: own_port, mode, sent }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Changes the mode, for bytes on their way as well.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send(mode).unwrap();
    }

    /// How many times clients have sent a text so far.
    pub(crate) fn count(&self, text: &str) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    }
}

async fn serve(listener: TcpListener, port: u16, mut mode: watch::Receiver<Mode>, sent: Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Err(_) = mode.wait_for(|_| false) => return,
        };
        let (Ok((client, _)), Ok(server)) = (accepted, TcpStream::connect(("127.0.0.1", port)).await) else {
            continue;
        };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
        tokio::spawn(copy(client_read, server_write, mode.clone(), Some(Arc::clone(&sent))));
        tokio::spawn(copy(server_read, client_write, mode.clone(), None));
    }
}

/// Copies bytes in one direction until an end closes or the mode is `Reset`.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    sent: Option<Arc<Mutex<Vec<u8>>>>,
) {
    let mut follow = mode.clone();
    let reset = follow.wait_for(|mode| *mode == Mode::Reset);
    let is_new = *mode.borrow() == Mode::StallExisting;
    let forwards = |mode: &Mode| *mode != Mode::Stall && (*mode != Mode::StallExisting || is_new);
    let copied = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            if let Some(sent) = &sent {
                sent.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
            let now = *mode.borrow();
            if let Mode::Delay(delay) = now {
                tokio::time::sleep(delay).await;
            }
            if mode.wait_for(forwards).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = copied => {}
        _ = reset => {
            // Makes the close send RST.
            let _ = to.as_ref().set_zero_linger();
        }
    }
}
