//! Server processes: the upstream and the proxies. A proxy is stopped while others are measured.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::procfs::{CpuTime, open_files, process_tree, pss, rss};
use keygate_test_servers::Process;

/// How long to wait until a server listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. It is killed on drop.
pub(crate) struct Server {
    process: Process,
    /// The server to which this one sends a check for each request. It is killed with this one.
    authorizer: Option<Box<Self>>,
    /// The address on which it listens, `ip:port`.
    pub(crate) address: String,
}

impl Server {
    /// Starts a server and waits until it listens. If it exits instead, prints its exit status and returns `None`. Panics if it does not
    /// listen within [`START_TIMEOUT`].
    pub(crate) fn start(name: &str, mut command: Command, address: String) -> Option<Self> {
        let mut process = Process::start(&mut command);
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(&address).is_err() {
            if let Some(status) = process.child().try_wait().unwrap() {
                println!("{name}: skipped, it exited during start-up ({status})");
                return None;
            }
            assert!(Instant::now() < deadline, "{name} does not listen at {address} after {START_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, authorizer: None, address })
    }

    /// Adds an authorizer. Its CPU time and RSS are included in those of this server.
    pub(crate) fn with_authorizer(mut self, authorizer: Self) -> Self {
        self.authorizer = Some(Box::new(authorizer));
        self
    }

    /// CPU time so far, including that of the authorizer.
    pub(crate) fn cpu(&self) -> CpuTime {
        CpuTime::of(self.id()) + self.authorizer_cpu().unwrap_or_default()
    }

    /// The part of [`Server::cpu`] that the authorizer used. `None` if there is no authorizer.
    pub(crate) fn authorizer_cpu(&self) -> Option<CpuTime> {
        self.authorizer.as_ref().map(|authorizer| authorizer.cpu())
    }

    /// RSS in bytes, including that of the authorizer.
    pub(crate) fn rss(&self) -> u64 {
        rss(self.id()) + self.authorizer.as_ref().map_or(0, |authorizer| authorizer.rss())
    }

    /// PSS in bytes, without that of the authorizer.
    pub(crate) fn pss(&self) -> u64 {
        pss(self.id())
    }

    /// The number of open file descriptors, including connections, without those of the authorizer.
    pub(crate) fn open_files(&self) -> usize {
        open_files(self.id())
    }

    /// Stops the server and its authorizer. They use no CPU time until [`Server::resume`], and keep their state and connections.
    pub(crate) fn stop(&self) {
        signal("STOP", &self.processes());
    }

    /// Resumes the server and its authorizer.
    pub(crate) fn resume(&self) {
        signal("CONT", &self.processes());
    }

    /// The ids of all processes of the server and its authorizer.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let authorizer = self.authorizer.as_ref().map(|authorizer| authorizer.processes());
        process_tree(self.id()).into_iter().chain(authorizer.unwrap_or_default()).collect()
    }

    /// The id of the first process, which may have children.
    fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Sends a signal to processes. Those that have exited are ignored.
fn signal(name: &str, processes: &[u32]) {
    let processes = processes.iter().map(ToString::to_string);
    drop(Command::new("kill").arg(format!("-{name}")).args(processes).stderr(Stdio::null()).status());
}

impl Drop for Server {
    fn drop(&mut self) {
        // Parents are killed before their children, so that they do not restart them.
        signal("KILL", &process_tree(self.id()));
    }
}
