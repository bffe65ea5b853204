//! nginx as an instance of an upstream.

use keygate_test_servers::{Peer, PeerProgram, free_port};

/// A running nginx; it is killed on drop.
pub(super) struct Nginx {
    port: u16,
    settings: String,
    peer: Option<Peer>,
}

impl Nginx {
    /// Starts nginx, which answers every request with 200, with more settings in its `server` block. `None` if it is not installed.
    pub(super) fn start(settings: &str) -> Option<Self> {
        let port = free_port();
        let peer = run(port, settings)?;
        Some(Self { port, settings: settings.to_owned(), peer: Some(peer) })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it: its connections are closed at once, and new ones are refused.
    pub(super) fn kill(&mut self) {
        self.peer = None;
    }

    /// Starts it again on the same port.
    pub(super) fn start_again(&mut self) {
        self.peer = Some(run(self.port, &self.settings).unwrap());
    }
}

fn run(port: u16, settings: &str) -> Option<Peer> {
    let server = format!("server {{ listen 127.0.0.1:{port}; {settings} location / {{ return 200 ok; }} }}");
    let config = format!("worker_processes 1; events {{ worker_connections 512; }} http {{ {server} }}");
    PeerProgram::Nginx.start(&config, port)
}
