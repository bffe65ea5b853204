//! Tables of results, as Markdown.

use std::fmt::Write as _;

use serde::Serialize;

use crate::measurements::Measurements;
use crate::statistics::{median, range};

/// Upper bounds of a figure. `None` is no bound.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Target {
    pub(crate) wanted: Option<f64>,
    /// A more ambitious bound.
    pub(crate) stretch: Option<f64>,
}

/// A figure with its value in each round and its target.
#[derive(Serialize)]
pub(crate) struct Row {
    /// The name of the figure.
    pub(crate) what: String,
    pub(crate) values: Vec<f64>,
    /// Empty for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    /// What the baseline of the ratio does not do; may be empty.
    pub(crate) missing: &'static str,
}

impl Target {
    pub(crate) const NONE: Self = Self { wanted: None, stretch: None };
}

/// All candidates, with the ratio of the CPU time of each to that of the first. Empty if there are none.
pub(crate) fn all(measured: &[Measurements]) -> String {
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

/// A paragraph about CPU time on the proxy core that was not used for the measured candidates. Empty if it is unknown.
fn noise(measured: &[Measurements]) -> String {
    let others = measured.iter().map(Measurements::max_others_busy).fold(0.0, f64::max);
    let unrelated: Vec<f64> =
        measured.iter().flat_map(Measurements::unrelated_busy).map(|share| share * 100.0).collect();
    if unrelated.is_empty() {
        return String::new();
    }
    format!(
        "\nThe proxies that were not being measured took {:.2} % of a core at the most. Programs that take no part took {:.0} % of \
         the proxies' core as a rule (median), and {:.0} % at the most: with more than a few, figures are of a noisy machine.\n",
        others * 100.0,
        median(unrelated.iter().copied()),
        range(unrelated).1,
    )
}

/// CPU time of the candidates with an authorizer, split into proxy and authorizer. Empty if there are none.
pub(crate) fn authorizers(measured: &[Measurements]) -> String {
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

/// Figures with their targets. A median above the wanted value is in bold.
pub(crate) fn rows(rows: &[Row]) -> String {
    let mut table = "| | median | least to greatest of the rounds | wanted | stretch | what the other does not do |\n\
                     | --- | ---: | ---: | ---: | ---: | --- |\n"
        .to_owned();
    for Row { what, values, unit, target: Target { wanted, stretch }, missing } in rows {
        let (median, (min, max)) = (median(values.iter().copied()), range(values.iter().copied()));
        let bold = if wanted.is_some_and(|wanted| median > wanted) { "**" } else { "" };
        let [wanted, stretch] = [wanted, stretch].map(|target| number(*target, 2));
        writeln!(
            table,
            "| {what} | {bold}{median:.2}{unit}{bold} | {min:.2} to {max:.2} | {wanted} | {stretch} | {missing} |"
        )
        .unwrap();
    }
    table
}

/// Formats an optional number with a fixed number of decimal places.
fn number(number: Option<f64>, places: usize) -> String {
    number.map_or_else(String::new, |number| format!("{number:.places$}"))
}
