//! A TCP proxy that does to connections what networks do: it delays them, falls silent, breaks them.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// What becomes of bytes, in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// They pass.
    Open,
    /// They pass that much later.
    Slow(Duration),
    /// They are held, for as long as this lasts; connections can be made but nobody answers.
    Silent,
    /// They are held on connections that are there; those that are made pass.
    Stuck,
    /// Connections are reset, those that are there and those that are made.
    Cut,
}

/// A way to a port on loopback.
pub(crate) struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// A way to `port` that is open; it ends with its owner.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (way, follow) = watch::channel(Way::Open);
        let asked = Arc::default();
        let seen = Arc::clone(&asked);
        // On a thread of its own: tests block theirs.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, port, follow, seen));
        });
        Self { port: own_port, way, asked }
    }

    /// Where to connect.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Changes what becomes of bytes from now on.
    pub(crate) fn turn(&self, way: Way) {
        self.way.send(way).unwrap();
    }

    /// How often a text was sent to the server so far.
    pub(crate) fn count(&self, text: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    }
}

async fn serve(listener: TcpListener, port: u16, mut way: watch::Receiver<Way>, seen: Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Err(_) = way.wait_for(|_| false) => return,
        };
        let (Ok((near, _)), Ok(far)) = (accepted, TcpStream::connect(("127.0.0.1", port)).await) else { continue };
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        tokio::spawn(carry(near_read, far_write, way.clone(), Some(Arc::clone(&seen))));
        tokio::spawn(carry(far_read, near_write, way.clone(), None));
    }
}

/// Carries bytes one way until an end closes or the way is cut.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    seen: Option<Arc<Mutex<Vec<u8>>>>,
) {
    let mut follow = way.clone();
    let cut = follow.wait_for(|way| *way == Way::Cut);
    let is_new = *way.borrow() == Way::Stuck;
    let passes = |way: &Way| *way != Way::Silent && (*way != Way::Stuck || is_new);
    let carried = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            if let Some(seen) = &seen {
                seen.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
            let now = *way.borrow();
            if let Way::Slow(delay) = now {
                tokio::time::sleep(delay).await;
            }
            if way.wait_for(passes).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = carried => {}
        _ = cut => {
            // Closing then resets.
            let _ = to.as_ref().set_zero_linger();
        }
    }
}
