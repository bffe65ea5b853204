//! What runs for the whole of a measurement: the upstream, the proxies.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cpu::{CpuTime, family, resident};
use keygate_test_servers::Process;

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; it ends with this value.
pub(crate) struct Server {
    process: Process,
    /// The server that this one asks about each request; it runs as long as this one.
    authorizer: Option<Box<Self>>,
    /// Where it listens, `ip:port`.
    pub(crate) address: String,
}

impl Server {
    /// Starts a server and waits until it listens; `None`, and a word why, when it ends instead.
    pub(crate) fn start(name: &str, mut command: Command, address: String) -> Option<Self> {
        let mut process = Process::start(&mut command);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&address).is_err() {
            if let Some(status) = process.child().try_wait().unwrap() {
                println!("{name} cannot be started ({status}), it is left out");
                return None;
            }
            assert!(Instant::now() < deadline, "{name} was to listen at {address} within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, authorizer: None, address })
    }

    /// The same server with an authorizer, whose CPU time and memory count as its own.
    pub(crate) fn with_authorizer(mut self, authorizer: Self) -> Self {
        self.authorizer = Some(Box::new(authorizer));
        self
    }

    /// CPU time so far, with that of the authorizer.
    pub(crate) fn cpu(&self) -> CpuTime {
        CpuTime::of(self.id()) + self.authorizer_cpu().unwrap_or_default()
    }

    /// The part of [`Server::cpu`] that the authorizer used; `None` without an authorizer.
    pub(crate) fn authorizer_cpu(&self) -> Option<CpuTime> {
        self.authorizer.as_ref().map(|authorizer| authorizer.cpu())
    }

    /// Resident memory in bytes, with that of the authorizer.
    pub(crate) fn resident(&self) -> u64 {
        resident(self.id()) + self.authorizer.as_ref().map_or(0, |authorizer| authorizer.resident())
    }

    /// The id of its first process; it may have children.
    fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The first one first: it would start others in the place of those that end.
        let family = family(self.id()).into_iter().map(|process| process.to_string());
        // One that has ended already is no matter.
        drop(Command::new("kill").arg("-KILL").args(family).stderr(Stdio::null()).status());
    }
}
