//! A child process that ends with its owner, also when the test panics.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running child.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a command; its standard streams are what the command says.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The child.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal by name, such as TERM.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.wait(Duration::from_secs(30));
    }

    /// Waits for the end; panics when it takes longer than `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process was to end within {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
