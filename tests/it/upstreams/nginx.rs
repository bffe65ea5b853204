//! nginx as an instance of an upstream.

use keygate_test_servers::{Peer, PeerProgram, free_port};

/// A running nginx; it ends on drop.
pub(super) struct Nginx {
    port: u16,
    settings: String,
    has_workers: bool,
    peer: Option<Peer>,
}

impl Nginx {
    /// Starts nginx, which answers every request with 200, with more settings in its `server` block. `None` if it is not installed.
    pub(super) fn start(settings: &str) -> Option<Self> {
        Self::run(settings, false)
    }

    /// The same with a worker process, which can be ended gracefully.
    pub(super) fn with_worker(settings: &str) -> Option<Self> {
        Self::run(settings, true)
    }

    fn run(settings: &str, has_workers: bool) -> Option<Self> {
        let mut nginx = Self { port: free_port(), settings: settings.to_owned(), has_workers, peer: None };
        nginx.peer = Some(nginx.peer()?);
        Some(nginx)
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it: its connections are closed at once, and new ones are refused.
    pub(super) fn kill(&mut self) {
        self.peer = None;
    }

    /// Ends it gracefully: it refuses new connections, closes idle ones, and answers the requests that it has received.
    pub(super) fn quit(&mut self) {
        assert!(self.has_workers, "without workers, nginx ends at once");
        if let Some(mut peer) = self.peer.take() {
            peer.quit();
        }
    }

    /// Starts it again on the same port.
    pub(super) fn start_again(&mut self) {
        self.peer = Some(self.peer().unwrap());
    }

    fn peer(&self) -> Option<Peer> {
        let Self { port, settings, has_workers, .. } = self;
        let server = format!("server {{ listen 127.0.0.1:{port}; {settings} location / {{ return 200 ok; }} }}");
        let master = if *has_workers { "master_process on;" } else { "" };
        let config = format!("{master} worker_processes 1; events {{ worker_connections 512; }} http {{ {server} }}");
        PeerProgram::Nginx.start(&config, *port)
    }
}
