//! The upstream and the proxies. A proxy is stopped while others are measured.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cpu::{CpuTime, family, open_files, proportional, resident};
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

    /// Memory in bytes, with its part of what its processes share.
    pub(crate) fn proportional(&self) -> u64 {
        proportional(self.id())
    }

    /// Open files, with connections.
    pub(crate) fn open_files(&self) -> usize {
        open_files(self.id())
    }

    /// Stops it, with its authorizer: it uses no processor time until [`Server::resume`], and keeps all that it has.
    pub(crate) fn stop(&self) {
        signal("STOP", &self.processes());
    }

    pub(crate) fn resume(&self) {
        signal("CONT", &self.processes());
    }

    /// All its processes, and those of its authorizer.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let authorizer = self.authorizer.as_ref().map(|authorizer| authorizer.processes());
        family(self.id()).into_iter().chain(authorizer.unwrap_or_default()).collect()
    }

    /// The id of its first process; it may have children.
    fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Sends a signal. A process that has ended already is no error.
fn signal(name: &str, processes: &[u32]) {
    let processes = processes.iter().map(ToString::to_string);
    drop(Command::new("kill").arg(format!("-{name}")).args(processes).stderr(Stdio::null()).status());
}

impl Drop for Server {
    fn drop(&mut self) {
        // The first one first: it would start others in the place of those that end.
        signal("KILL", &family(self.id()));
    }
}
