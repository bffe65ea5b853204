//! Counting by callgrind: this program runs itself under it, twice for each stage, once doing it twice as often. The set-up is
//! in both, so the difference is the stage alone.

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::Stage;

/// What the program that is counted is told: the stage's name, and how often to do it.
const STAGE: &str = "KEYGATE_COUNTED_STAGE";
const CALLS: &str = "KEYGATE_COUNTED_CALLS";
/// How often a stage is done in the first run; in the second twice as often.
const CALLS_FEW: usize = 1000;

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
    let calls: usize = env::var(CALLS).expect("the runner says how often").parse().expect("the runner gives a number");
    let stage = stages.iter().find(|stage| stage.name == name).expect("the runner knows the stages");
    // The same set-up in both runs.
    let mut call = (stage.prepare)(2 * CALLS_FEW);
    for _ in 0..calls {
        call();
    }
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
    let (few, many) = (collect(stage, CALLS_FEW)?, collect(stage, 2 * CALLS_FEW)?);
    let instructions = many.saturating_sub(few) / CALLS_FEW as u64;
    Ok(Count { name: stage.name, instructions })
}

/// All instructions of a process that does a stage so often.
fn collect(stage: &Stage, calls: usize) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("this program is not to be found: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .env(STAGE, stage.name)
        .env(CALLS, calls.to_string())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}; install it: deploy/ci/ensure.sh instructions"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(collected) if output.status.success() => Ok(collected),
        _ => Err(format!("{:?} failed under valgrind ({}):\n{report}", stage.name, output.status)),
    }
}
