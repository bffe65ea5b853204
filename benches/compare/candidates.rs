//! Runs the comparison: measures all candidates, prints the tables and writes the result files.

use tempfile::TempDir;

use crate::bar_chart::{Bar, Group};
use crate::candidate_setup::{KEYS, start_candidates};
use crate::comparisons::{self, IDLE};
use crate::idle;
use crate::measurements::Measurements;
use crate::results::Results;
use crate::settings::Settings;
use crate::table::{self, Row};
use crate::upstream;

pub(crate) fn run(settings: &Settings) {
    let upstream = upstream::start();
    let idle = if settings.measures(IDLE) { idle::measure(settings, &upstream.address) } else { Vec::new() };
    let measured =
        if settings.only.as_deref() == Some(IDLE) { Vec::new() } else { measure(settings, &upstream.address) };
    let mut rows = comparisons::rows(&measured);
    rows.extend(idle);
    report(settings, &measured, &rows);
}

fn measure(settings: &Settings, upstream: &str) -> Vec<Measurements> {
    let folder = TempDir::new().unwrap();
    let mut bench = start_candidates(settings, folder.path(), upstream);
    if let Some(part) = &settings.only {
        // The first candidate is always measured, because the table shows ratios to it.
        let first = bench.candidates[0].name.clone();
        bench
            .candidates
            .retain(|candidate| candidate.name == first || comparisons::part_includes(part, &candidate.name));
    }
    bench.run(settings)
}

fn report(settings: &Settings, measured: &[Measurements], rows: &[Row]) {
    let tables = [table::all(measured), table::rows(rows), table::authorizers(measured)];
    for table in tables.iter().filter(|table| !table.is_empty()) {
        println!("\n{table}");
    }
    let bars = measured.iter().map(|candidate| bar(candidate, &measured[0])).collect();
    let title = format!("CPU time of the proxy in µs per request, {KEYS} keys");
    let groups = [Group { title: "CPU time and its ratio to bare pingora".to_owned(), bars }];
    let suffix = settings.only.as_ref().map(|part| format!("-{part}")).unwrap_or_default();
    Results { suffix: &suffix, title: &title, measured, rows, groups: &groups }.write(settings);
}

fn bar(candidate: &Measurements, baseline: &Measurements) -> Bar {
    let (value, ratio) = (candidate.cpu_micros(), candidate.cpu_ratio(baseline));
    Bar {
        name: candidate.name.clone(),
        value,
        note: format!("{value:.1} µs, {ratio:.2}"),
        is_keygate: candidate.name.starts_with("Keygate"),
    }
}
