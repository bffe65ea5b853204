//! The metric of refused records.

use prometheus::{IntCounter, Opts};

/// A counter of the records that a cache did not take because they were older than a change.
pub(super) fn refusals(level: &str) -> IntCounter {
    let help = "Records that were not cached because the key had changed meanwhile";
    let options = Opts::new("keygate_cache_fills_refused_total", help).const_label("level", level);
    IntCounter::with_opts(options).expect("name and label are valid")
}
