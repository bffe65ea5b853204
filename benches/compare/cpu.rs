//! What processes and cores have done, from `/proc`.

use std::fs;
use std::ops::{Add, Sub};

/// CPU time of a server: of its first process and of all below it, with all their threads.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// Nanoseconds that its threads ran.
    pub(crate) nanos: u64,
    /// Ticks in user mode, and in the kernel.
    user: u64,
    system: u64,
}

/// Ticks of one core.
#[derive(Clone, Copy)]
pub(crate) struct CoreTime {
    busy: u64,
    all: u64,
}

impl CpuTime {
    /// What a server has used so far.
    pub(crate) fn of(server: u32) -> Self {
        family(server).into_iter().fold(Self::default(), |sum, process| {
            let (_, user, system) = stat(process).unwrap_or_default();
            sum + Self { nanos: ran(process), user, system }
        })
    }

    /// The part of it that was in user mode, 0 to 1. Ticks are coarse: over seconds it is good to a percent.
    pub(crate) fn user_share(self) -> f64 {
        ratio(self.user, self.user + self.system)
    }
}

impl Add for CpuTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos + other.nanos, user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_sub(earlier.nanos),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

impl CoreTime {
    /// What a core has done so far.
    pub(crate) fn of(core: usize) -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} "))).unwrap();
        // user nice system idle iowait irq softirq steal; what follows is part of the first two.
        let ticks: Vec<u64> = line.split_whitespace().take(8).map(|ticks| ticks.parse().unwrap()).collect();
        let all = ticks.iter().sum();
        Self { busy: all - ticks[3] - ticks[4], all }
    }

    /// The share of the time since `earlier` in which the core was busy, 0 to 1.
    pub(crate) fn busy_since(self, earlier: Self) -> f64 {
        ratio(self.busy - earlier.busy, self.all - earlier.all)
    }
}

/// Memory that a server has now, in bytes. What its processes share counts for each.
pub(crate) fn resident(server: u32) -> u64 {
    family(server).into_iter().map(resident_of).sum()
}

fn resident_of(process: u32) -> u64 {
    kilobytes(process, "status", "VmRSS:") * 1024
}

/// Memory that a server has now, in bytes. What its processes share is divided among them.
pub(crate) fn proportional(server: u32) -> u64 {
    family(server).into_iter().map(|process| kilobytes(process, "smaps_rollup", "Pss:") * 1024).sum()
}

/// Open files of a server, with its connections.
pub(crate) fn open_files(server: u32) -> usize {
    let of = |process| fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
    family(server).into_iter().map(of).sum()
}

/// A line of a file of a process; 0 when the process has ended.
fn kilobytes(process: u32, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// A process and all below it, parents before their children.
pub(crate) fn family(first: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, stat(process)?.0)))
        .collect();
    let mut family = vec![first];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(all.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(process, _)| *process));
        next += 1;
    }
    family
}

/// Parent, ticks in user mode, ticks in the kernel; `None` when the process has ended.
fn stat(process: u32) -> Option<(u32, u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may have spaces and brackets in it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?))
}

/// Nanoseconds that the threads of a process ran.
fn ran(process: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let of_task = |path: std::path::PathBuf| {
        fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(|task| of_task(task.ok()?.path())).sum()
}

#[expect(clippy::cast_precision_loss, reason = "far from the edge")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
