//! Instructions of each stage, counted by callgrind and compared with the baseline. Unlike times, the counts do not depend on the load of
//! the machine.
//!
//! `STAGES=JWT` runs only the stages whose name contains `JWT`. `BASELINE=write` writes the counts to the baseline. If a count has risen by
//! more than 1 %, `REASON` must be set.

mod baseline;
mod callgrind;
#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::process::ExitCode;

use baseline::{Baseline, Comparison, Platform};
use callgrind::Count;
use support::{STAGES, Stage};

const COMMAND: &str = "deploy/ci/instructions.sh";

fn main() -> ExitCode {
    if callgrind::is_child() {
        callgrind::run_child(STAGES);
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let filter = env::var("STAGES").unwrap_or_default();
    let stages: Vec<&Stage> = STAGES.iter().filter(|stage| stage.name.contains(&filter)).collect();
    let platform = Platform::current()?;
    let baseline = Baseline::read()?;
    let counts = callgrind::count_all(&stages)?;
    let comparisons: Vec<_> = counts.iter().map(|count| baseline.compare(count)).collect();
    print_table(&baseline, &counts, &comparisons);
    if env::var("BASELINE").is_ok_and(|action| action == "write") {
        let reason = env::var("REASON").unwrap_or_default();
        return baseline.write(platform, &counts, &reason, filter.is_empty());
    }
    if platform != baseline.platform {
        println!("\nNothing is asserted: the baseline is for {}, this is {platform}.", baseline.platform);
        return Ok(());
    }
    let failures = comparisons.iter().filter_map(Comparison::failure).chain(baseline.removed_stages());
    let failures: Vec<_> = failures.collect();
    if failures.is_empty() {
        return Ok(());
    }
    let command = format!("BASELINE=write REASON=\"why\" {COMMAND}");
    Err(format!("{}\nTo accept the new counts, run: {command}", failures.join("\n")))
}

fn print_table(baseline: &Baseline, counts: &[Count], comparisons: &[Comparison]) {
    println!("{:42} {:>12} {:>12} {:>8}", "instructions per iteration", "now", "baseline", "change");
    for (count, comparison) in counts.iter().zip(comparisons) {
        let before = baseline.stages.get(count.name).map_or_else(|| "-".into(), |entry| entry.instructions.to_string());
        println!("{:42} {:>12} {before:>12} {comparison}", count.name, count.instructions);
    }
}
