//! `keygate upgrade`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

/// The time between two looks at the process.
const LOOK: Duration = Duration::from_millis(50);

/// Arguments of `upgrade`.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// Id of the process to replace
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
    /// Seconds to wait until the process has ended
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

impl Upgrade {
    /// Has a running `keygate serve` replaced by a new process of its program, and waits until it has ended.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let process = Pid::from_raw(self.pid).context("the process id must be positive")?;
        check_program(self.pid)?;
        kill_process(process, Signal::USR2).with_context(|| format!("process {} cannot be signalled", self.pid))?;
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        while Instant::now() < deadline {
            if has_ended(self.pid) {
                eprintln!("Process {} was replaced.", self.pid);
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        bail!(
            "process {} runs after {} seconds: it was not replaced, or its last requests have not ended; see its log",
            self.pid,
            self.timeout
        )
    }
}

/// Whether a process has ended; its parent may not have waited for it yet.
fn has_ended(id: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{id}/stat"));
    // The state follows the name, which is in parentheses.
    state.map_or(true, |text| text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])))
}

/// Fails for another program, which the signal would end.
fn check_program(id: i32) -> anyhow::Result<()> {
    let name = std::fs::read_to_string(format!("/proc/{id}/comm"));
    let name = name.with_context(|| format!("there is no process {id} that this user can see"))?;
    if name.trim() != "keygate" {
        bail!("process {id} is {}, not keygate", name.trim());
    }
    Ok(())
}
