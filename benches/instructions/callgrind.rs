//! Counting by callgrind: this program runs itself under it, twice for each stage, once doing it twice as often. The set-up is
//! in both, so the difference is the stage alone.
//!
//! Set-ups differ by a hundred thousand instructions from run to run (hash seeds, entropy), so a stage is done often enough for
//! that to be a part in hundreds.

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::Stage;

/// What the program that is counted is told: the stage's name, and how often to do it.
const STAGE: &str = "KEYGATE_COUNTED_STAGE";
const CALLS: &str = "KEYGATE_COUNTED_CALLS";
/// How many times a stage is set up for.
const PREPARED: &str = "KEYGATE_COUNTED_PREPARED";
/// About so many instructions are counted in the first run beside the set-up; in the second twice as many.
const INSTRUCTIONS: u64 = 40_000_000;
/// How often a stage is done to see roughly what it takes.
const CALLS_FIRST: u64 = 64;
/// No cheap stage is done more often than this.
const CALLS_MAX: u64 = 16_384;

/// What a stage takes.
#[derive(Debug, Clone)]
pub(crate) struct Count {
    /// The stage.
    pub(crate) name: &'static str,
    /// Instructions for doing it once.
    pub(crate) instructions: u64,
}

/// Whether this process is one that is counted.
pub(crate) fn is_counted() -> bool {
    env::var_os(STAGE).is_some()
}

/// Does one stage as often as the environment says.
pub(crate) fn run_counted(stages: &[Stage]) {
    let name = env::var(STAGE).expect("the runner names the stage");
    let stage = stages.iter().find(|stage| stage.name == name).expect("the runner knows the stages");
    let mut call = (stage.prepare)(number(PREPARED));
    for _ in 0..number(CALLS) {
        call();
    }
}

fn number(variable: &str) -> usize {
    let text = env::var(variable).expect("the runner gives every number");
    text.parse().expect("the runner gives numbers")
}

/// Counts stages, as many at a time as there are processors.
///
/// # Errors
/// When valgrind is not there or a stage fails.
pub(crate) fn count_all(stages: &[&Stage]) -> Result<Vec<Count>, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut counts = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(stage) = stages.get(index) else { return Ok(counts) };
            counts.push((index, count(stage)?));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<Result<_, String>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
    });
    let mut counts = results.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    counts.sort_by_key(|(index, _)| *index);
    Ok(counts.into_iter().map(|(_, count)| count).collect())
}

fn count(stage: &Stage) -> Result<Count, String> {
    let roughly = count_calls(stage, CALLS_FIRST)?;
    let calls = (INSTRUCTIONS / roughly.max(1)).clamp(CALLS_FIRST, CALLS_MAX).next_power_of_two();
    Ok(Count { name: stage.name, instructions: count_calls(stage, calls)? })
}

fn count_calls(stage: &Stage, calls: u64) -> Result<u64, String> {
    let (once, twice) = (collect(stage, calls, 2 * calls)?, collect(stage, 2 * calls, 2 * calls)?);
    Ok(twice.saturating_sub(once) / calls)
}

/// All instructions of a process that does a stage so often, of so many times that it is set up for.
fn collect(stage: &Stage, calls: u64, prepared: u64) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("this program is not to be found: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .env(STAGE, stage.name)
        .env(CALLS, calls.to_string())
        .env(PREPARED, prepared.to_string())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}; install it: deploy/ci/ensure.sh instructions"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(collected) if output.status.success() => Ok(collected),
        _ => Err(format!("{:?} failed under valgrind ({}):\n{report}", stage.name, output.status)),
    }
}
