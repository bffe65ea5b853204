//! CPU time, memory and open files of servers, and CPU time of cores, from `/proc`.

use std::fs;
use std::ops::{Add, Sub};

/// CPU time of a server: of all threads of its first process and that process's descendants.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// Run time of the threads, in nanoseconds.
    pub(crate) nanos: u64,
    /// Clock ticks in user mode.
    user_ticks: u64,
    /// Clock ticks in kernel mode.
    system_ticks: u64,
}

/// Clock ticks of one core since boot.
#[derive(Clone, Copy)]
pub(crate) struct CoreTime {
    busy: u64,
    total: u64,
}

impl CpuTime {
    /// The CPU time that a server has used so far.
    pub(crate) fn of(server: u32) -> Self {
        process_tree(server).into_iter().fold(Self::default(), |sum, process| {
            let (_, user_ticks, system_ticks) = stat(process).unwrap_or_default();
            sum + Self { nanos: run_nanos(process), user_ticks, system_ticks }
        })
    }

    /// The fraction of the CPU time in user mode, 0 to 1. It is computed from clock ticks, which are coarse: over several seconds it is
    /// accurate to one percent.
    pub(crate) fn user_share(self) -> f64 {
        ratio(self.user_ticks, self.user_ticks + self.system_ticks)
    }
}

impl Add for CpuTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            nanos: self.nanos + other.nanos,
            user_ticks: self.user_ticks + other.user_ticks,
            system_ticks: self.system_ticks + other.system_ticks,
        }
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_sub(earlier.nanos),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }
}

impl CoreTime {
    /// The clock ticks of a core so far.
    pub(crate) fn of(core: usize) -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} "))).unwrap();
        // user nice system idle iowait irq softirq steal. The fields after them are included in user and nice.
        let ticks: Vec<u64> = line.split_whitespace().take(8).map(|ticks| ticks.parse().unwrap()).collect();
        let total = ticks.iter().sum();
        Self { busy: total - ticks[3] - ticks[4], total }
    }

    /// The fraction of the time since `earlier` in which the core was busy, 0 to 1.
    pub(crate) fn busy_since(self, earlier: Self) -> f64 {
        ratio(self.busy - earlier.busy, self.total - earlier.total)
    }
}

/// RSS of a server, in bytes. Memory that its processes share is counted once for each of them.
pub(crate) fn rss(server: u32) -> u64 {
    process_tree(server).into_iter().map(|process| kib_value(process, "status", "VmRSS:") * 1024).sum()
}

/// PSS of a server, in bytes. Memory that its processes share is divided among them.
pub(crate) fn pss(server: u32) -> u64 {
    process_tree(server).into_iter().map(|process| kib_value(process, "smaps_rollup", "Pss:") * 1024).sum()
}

/// The number of open file descriptors of a server, including its connections.
pub(crate) fn open_files(server: u32) -> usize {
    let of = |process| fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
    process_tree(server).into_iter().map(of).sum()
}

/// The value of a line in a `/proc` file of a process, in KiB; 0 if the process has exited.
fn kib_value(process: u32, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// A process and its descendants. Parents precede their children.
pub(crate) fn process_tree(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, stat(process)?.0)))
        .collect();
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(all.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(process, _)| *process));
        next += 1;
    }
    tree
}

/// The parent of a process, its clock ticks in user mode and those in kernel mode; `None` if it has exited.
fn stat(process: u32) -> Option<(u32, u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The process name, which is in parentheses, may contain spaces and parentheses.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?))
}

/// Run time of the threads of a process, in nanoseconds.
fn run_nanos(process: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let of_task = |path: std::path::PathBuf| {
        fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(|task| of_task(task.ok()?.path())).sum()
}

#[expect(clippy::cast_precision_loss, reason = "the values are far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
