//! Instruction counts by callgrind. This program runs itself under callgrind as a child process, twice for each stage: with n and with
//! 2n iterations. Both runs have the same set-up, so the difference between their counts is n iterations of the stage.
//!
//! The set-up varies by about 100,000 instructions from run to run (hash seeds, entropy). The number of iterations is chosen so that this
//! variation is small compared with the count.

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::Stage;

/// The environment variable that tells the child process the name of the stage to run.
const STAGE_VARIABLE: &str = "KEYGATE_CALLGRIND_STAGE";
/// The environment variable for the number of iterations that the child process runs.
const ITERATIONS_VARIABLE: &str = "KEYGATE_CALLGRIND_ITERATIONS";
/// The environment variable for the number of iterations that the child process sets up. It is the same in both runs of a stage, so that
/// their set-ups are equal.
const PREPARED_VARIABLE: &str = "KEYGATE_CALLGRIND_PREPARED";
/// The target number of instructions in the first run of a stage, without set-up. The second run has twice as many.
const INSTRUCTIONS: u64 = 40_000_000;
/// The number of iterations in the estimate from which the final number is computed, and the minimum of the final number.
const ITERATIONS_MIN: u64 = 64;
/// The maximum number of iterations in the first run. Limits the run time of cheap stages.
const ITERATIONS_MAX: u64 = 16_384;

/// The instruction count of a stage.
#[derive(Debug, Clone)]
pub(crate) struct Count {
    /// The name of the stage.
    pub(crate) name: &'static str,
    /// Instructions per iteration.
    pub(crate) instructions: u64,
}

/// Whether this process is a child process that runs under callgrind.
pub(crate) fn is_child() -> bool {
    env::var_os(STAGE_VARIABLE).is_some()
}

/// Runs the stage and the number of iterations that the environment specifies.
pub(crate) fn run_child(stages: &[Stage]) {
    let name = env::var(STAGE_VARIABLE).expect("the parent process sets the name of the stage");
    let stage = stages.iter().find(|stage| stage.name == name).expect("the parent process names an existing stage");
    let mut iterate = (stage.prepare)(number(PREPARED_VARIABLE));
    for _ in 0..number(ITERATIONS_VARIABLE) {
        iterate();
    }
}

fn number(variable: &str) -> usize {
    let text = env::var(variable).expect("the parent process sets the variable");
    text.parse().expect("the value is a number")
}

/// Counts the instructions of all stages, in parallel on all CPUs.
///
/// # Errors
/// If valgrind is not installed or a stage fails.
pub(crate) fn count_all(stages: &[&Stage]) -> Result<Vec<Count>, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut counts = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(stage) = stages.get(index) else { return Ok(counts) };
            counts.push((index, count_stage(stage)?));
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

fn count_stage(stage: &Stage) -> Result<Count, String> {
    let estimate = instructions_per_iteration(stage, ITERATIONS_MIN)?;
    let iterations = (INSTRUCTIONS / estimate.max(1)).clamp(ITERATIONS_MIN, ITERATIONS_MAX).next_power_of_two();
    Ok(Count { name: stage.name, instructions: instructions_per_iteration(stage, iterations)? })
}

fn instructions_per_iteration(stage: &Stage, iterations: u64) -> Result<u64, String> {
    let single = run_under_callgrind(stage, iterations, 2 * iterations)?;
    let double = run_under_callgrind(stage, 2 * iterations, 2 * iterations)?;
    Ok(double.saturating_sub(single) / iterations)
}

/// Runs a child process that sets a stage up for `prepared` iterations and runs `iterations` of them. Returns the number of instructions of
/// the whole process.
fn run_under_callgrind(stage: &Stage, iterations: u64, prepared: u64) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("cannot get the path of this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .env(STAGE_VARIABLE, stage.name)
        .env(ITERATIONS_VARIABLE, iterations.to_string())
        .env(PREPARED_VARIABLE, prepared.to_string())
        .output()
        .map_err(|error| {
            format!("cannot run valgrind: {error}; to install it, run: deploy/ci/ensure.sh instructions")
        })?;
    let report = String::from_utf8_lossy(&output.stderr);
    let instructions = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match instructions {
        Some(instructions) if output.status.success() => Ok(instructions),
        _ => Err(format!("{:?} failed under valgrind ({}):\n{report}", stage.name, output.status)),
    }
}
