//! Child processes that end with the test, also when it panics.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::WAIT_TIMEOUT;

/// A running child process; it is killed on drop.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a command with an empty stdin; stdout and stderr are as the command sets them.
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// A child that was started otherwise.
    pub fn adopt(child: Child) -> Self {
        Self(child)
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal by name, such as TERM.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Kills it and waits for its end, like a crash.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait(WAIT_TIMEOUT);
    }

    /// Waits for its end; panics if it takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process has not ended within {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes stopped with SIGSTOP; they continue on drop.
#[derive(Debug)]
pub struct PausedProcesses(Vec<u32>);

impl PausedProcesses {
    pub(crate) fn new(process: u32) -> Self {
        let mut paused = Self(Vec::new());
        paused.add(process);
        paused
    }

    pub(crate) fn add(&mut self, process: u32) {
        signal("-STOP", process);
        self.0.push(process);
    }
}

impl Drop for PausedProcesses {
    fn drop(&mut self) {
        for process in &self.0 {
            signal("-CONT", *process);
        }
    }
}

/// Sends a signal. A process that has ended already is no error.
fn signal(name: &str, process: u32) {
    let _ = Command::new("kill").arg(name).arg(process.to_string()).output();
}
