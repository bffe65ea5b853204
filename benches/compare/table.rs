//! What was measured, as Markdown.

use std::fmt::Write as _;

use serde::Serialize;

use crate::measured::Measured;
use crate::statistics::{median, range};

/// What a figure is to be at the most.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Target {
    pub(crate) wanted: Option<f64>,
    pub(crate) stretch: Option<f64>,
}

/// A figure of each round with its target.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) values: Vec<f64>,
    /// Empty for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    /// What the other one does not do.
    pub(crate) missing: &'static str,
}

impl Target {
    pub(crate) const NONE: Self = Self { wanted: None, stretch: None };
}

/// Everything, with the ratio of each to the first.
pub(crate) fn all(measured: &[Measured]) -> String {
    if measured.is_empty() {
        return String::new();
    }
    let mut table =
        "| | requests/s | p50 µs | p99 µs | CPU µs/request (user) | memory MiB | ÷ first | proxy busy | load core busy |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            .to_owned();
    for candidate in measured {
        let [p50, p99] = candidate.latencies().map(|micros| number(micros, 0));
        let [proxy, load] = candidate.busy().map(|share| number(share.map(|share| share * 100.0), 0));
        writeln!(
            table,
            "| {} | {:.0} | {p50} | {p99} | {:.1} ({:.1}) | {:.0} | {:.2} | {proxy} % | {load} % |",
            candidate.name,
            candidate.per_second(),
            candidate.cpu_micros(),
            candidate.user_micros(),
            candidate.resident_mib(),
            candidate.cpu_ratio(&measured[0]),
        )
        .unwrap();
    }
    table + &noise(measured)
}

/// How much the machine did besides.
fn noise(measured: &[Measured]) -> String {
    let others = measured.iter().map(Measured::others_busy).fold(0.0, f64::max);
    let strangers: Vec<f64> = measured.iter().flat_map(Measured::strangers).map(|share| share * 100.0).collect();
    if strangers.is_empty() {
        return String::new();
    }
    format!(
        "\nThe proxies that were not being measured took {:.2} % of a core at the most. Programs that take no part took {:.0} % of \
         the proxies' core as a rule (median), and {:.0} % at the most: with more than a few, figures are of a noisy machine.\n",
        others * 100.0,
        median(strangers.iter().copied()),
        range(strangers).1,
    )
}

/// CPU time of those with an authorizer, divided between proxy and authorizer; empty if there are none.
pub(crate) fn authorizers(measured: &[Measured]) -> String {
    let mut table = String::new();
    for candidate in measured {
        let Some([proxy, authorizer]) = candidate.split_cpu_micros() else { continue };
        if table.is_empty() {
            table += "| CPU µs/request | both | proxy | Keygate |\n| --- | ---: | ---: | ---: |\n";
        }
        let both = candidate.cpu_micros();
        writeln!(table, "| {} | {both:.1} | {proxy:.1} | {authorizer:.1} |", candidate.name).unwrap();
    }
    table
}

/// Figures with their targets; a median above what is wanted is in bold.
pub(crate) fn rows(rows: &[Row]) -> String {
    let mut table = "| | median | least to greatest of the rounds | wanted | stretch | what the other does not do |\n\
                     | --- | ---: | ---: | ---: | ---: | --- |\n"
        .to_owned();
    for Row { what, values, unit, target: Target { wanted, stretch }, missing } in rows {
        let (median, (least, greatest)) = (median(values.iter().copied()), range(values.iter().copied()));
        let bold = if wanted.is_some_and(|wanted| median > wanted) { "**" } else { "" };
        let [wanted, stretch] = [wanted, stretch].map(|target| number(*target, 2));
        writeln!(
            table,
            "| {what} | {bold}{median:.2}{unit}{bold} | {least:.2} to {greatest:.2} | {wanted} | {stretch} | {missing} |"
        )
        .unwrap();
    }
    table
}

/// Formats an optional number with a fixed number of decimal places.
fn number(number: Option<f64>, places: usize) -> String {
    number.map_or_else(String::new, |number| format!("{number:.places$}"))
}
