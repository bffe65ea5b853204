//! Resumes stopped servers when the benchmark exits: a stopped process does not act on SIGTERM.

use std::process::{Child, ChildStdin, Command, Stdio};

/// Resumes processes on drop, or when this program exits for any reason. A SIGTERM that a stopped process receives stays pending until
/// the process is resumed.
///
/// A shell waits for the end of its standard input, which this program holds open, and then sends SIGCONT.
pub(crate) struct ResumeGuard {
    shell: Child,
    /// The standard input of the shell.
    input: Option<ChildStdin>,
}

impl ResumeGuard {
    pub(crate) fn start(processes: impl IntoIterator<Item = u32>) -> Self {
        let processes: Vec<String> = processes.into_iter().map(|process| process.to_string()).collect();
        let script = r#"trap "" INT TERM HUP; cat >/dev/null; kill -CONT "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(processes).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        Self { input: shell.stdin.take(), shell }
    }
}

impl Drop for ResumeGuard {
    fn drop(&mut self) {
        drop(self.input.take());
        // Errors are ignored: `kill` fails if a process has already exited.
        drop(self.shell.wait());
    }
}
