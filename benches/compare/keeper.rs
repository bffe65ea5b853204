//! Stopped processes cannot end by themselves.

use std::process::{Child, ChildStdin, Command, Stdio};

/// Resumes processes when this value is dropped, or when this program ends in whatever way: the signal by which a process is asked to end
/// then waits until it is resumed.
pub(crate) struct Keeper {
    shell: Child,
    /// The shell reads to the end of it.
    input: Option<ChildStdin>,
}

impl Keeper {
    pub(crate) fn start(processes: impl IntoIterator<Item = u32>) -> Self {
        let processes: Vec<String> = processes.into_iter().map(|process| process.to_string()).collect();
        let script = r#"trap "" INT TERM HUP; cat >/dev/null; kill -CONT "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(processes).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        Self { input: shell.stdin.take(), shell }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.input.take());
        // Nothing depends on how it ended.
        drop(self.shell.wait());
    }
}
