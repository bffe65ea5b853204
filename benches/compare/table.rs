//! What was measured, as Markdown.

use std::fmt::Write as _;

use crate::rounds::Measured;
use crate::statistics::{median, range};

/// CPU time that is to be compared: `one` ÷ `other`, by the names of candidates.
pub(crate) struct Pair {
    pub(crate) what: &'static str,
    pub(crate) one: &'static str,
    pub(crate) other: &'static str,
}

/// Everything, with the ratio of each to the first.
pub(crate) fn all(measured: &[Measured]) -> String {
    let mut table =
        "| | requests/s | p50 µs | p99 µs | CPU µs/request (user) | memory MiB | ÷ first | proxy busy | load core busy |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            .to_owned();
    for candidate in measured {
        let ([p50, p99], [proxy, load]) = (candidate.latencies(), candidate.busy());
        writeln!(
            table,
            "| {} | {:.0} | {p50:.0} | {p99:.0} | {:.1} ({:.1}) | {:.0} | {:.2} | {:.0} % | {:.0} % |",
            candidate.name,
            candidate.per_second(),
            candidate.cpu_micros(),
            candidate.user_micros(),
            candidate.resident_mib(),
            median(candidate.ratios(&measured[0])),
            proxy * 100.0,
            load * 100.0,
        )
        .unwrap();
    }
    let others = measured.iter().map(Measured::others_busy).fold(0.0, f64::max);
    let strangers = || measured.iter().flat_map(Measured::strangers).map(|share| share * 100.0);
    write!(
        table,
        "\nThe proxies that were not being measured took {:.2} % of a core at the most. Programs that take no part took {:.0} % of \
         the proxies' core as a rule (median), and {:.0} % at the most: with more than a few, figures are of a noisy machine.\n",
        others * 100.0,
        median(strangers()),
        range(strangers()).1,
    )
    .unwrap();
    table
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

/// The pairs of which both were measured.
pub(crate) fn pairs<'a>(measured: &[Measured], pairs: impl IntoIterator<Item = &'a Pair>) -> String {
    let mut table = "| | median | least to greatest of the rounds |\n| --- | ---: | ---: |\n".to_owned();
    let find = |name: &str| measured.iter().find(|candidate| candidate.name == name);
    for pair in pairs {
        let (Some(one), Some(other)) = (find(pair.one), find(pair.other)) else { continue };
        let (least, greatest) = range(one.ratios(other));
        writeln!(table, "| {} | {:.2} | {least:.2} to {greatest:.2} |", pair.what, median(one.ratios(other))).unwrap();
    }
    table
}
