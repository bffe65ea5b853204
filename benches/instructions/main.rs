//! How many instructions each stage takes, counted by callgrind and held against the baseline: a figure that a busy machine
//! does not change.
//!
//! `STAGES=JWT` takes only stages with that in their name. `BASELINE=write` writes what is counted into the baseline, and
//! takes what is higher only with a `REASON`.

mod baseline;
mod callgrind;
#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::process::ExitCode;

use baseline::{Baseline, Finding, Kind};
use callgrind::Count;
use support::{STAGES, Stage};

const COMMAND: &str = "deploy/ci/instructions.sh";

fn main() -> ExitCode {
    if callgrind::is_counted() {
        callgrind::run_counted(STAGES);
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
    let wanted = env::var("STAGES").unwrap_or_default();
    let stages: Vec<&Stage> = STAGES.iter().filter(|stage| stage.name.contains(&wanted)).collect();
    let kind = Kind::here()?;
    let baseline = Baseline::read()?;
    let counts = callgrind::count_all(&stages)?;
    let findings: Vec<_> = counts.iter().map(|count| baseline.judge(count)).collect();
    print_table(&baseline, &counts, &findings);
    if env::var("BASELINE").is_ok_and(|wish| wish == "write") {
        let reason = env::var("REASON").unwrap_or_default();
        return baseline.write(kind, &counts, &reason, wanted.is_empty());
    }
    if kind != baseline.kind {
        println!("\nNothing is asserted: the baseline is of {}, this is {kind}.", baseline.kind);
        return Ok(());
    }
    let complaints: Vec<_> = findings.iter().filter_map(Finding::complaint).chain(baseline.gone()).collect();
    if complaints.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nIf that has to be: BASELINE=write REASON=\"why\" {COMMAND}", complaints.join("\n")))
}

fn print_table(baseline: &Baseline, counts: &[Count], findings: &[Finding]) {
    println!("{:42} {:>12} {:>12} {:>8}", "instructions for each", "now", "baseline", "change");
    for (count, finding) in counts.iter().zip(findings) {
        let before = baseline.stages.get(count.name).map_or_else(|| "-".into(), |entry| entry.instructions.to_string());
        println!("{:42} {:>12} {before:>12} {finding}", count.name, count.instructions);
    }
}
