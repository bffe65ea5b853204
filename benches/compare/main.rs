//! Measures the CPU cost of a request: of Keygate, of a bare pingora proxy, and of other gateways in the nearest equivalent
//! configuration. The candidates run in turn on the same cores. `make bench` builds and runs this; docs/performance.md explains the
//! results.

#![expect(clippy::unwrap_used, reason = "a measurement that fails panics")]

#[expect(dead_code, reason = "test helpers, of which some are not used here")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

mod bar_chart;
mod candidate_setup;
mod candidates;
mod comparisons;
mod growth;
mod idle;
mod keygate;
mod keys;
mod load;
mod machine;
mod measurements;
mod peers;
mod procfs;
mod results;
mod resume_guard;
mod rounds;
mod server;
mod settings;
mod statistics;
mod table;
mod tls;
mod upstream;

use self::settings::Settings;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(upstream::ARGUMENT) => upstream::serve(&arguments.next().unwrap()),
        Some(load::FIXED_RATE_ARGUMENT) => load::send_at_fixed_rate(arguments),
        Some("--bench") => bench(&Settings::from_environment()),
        // `cargo test --all-targets` runs this program without `--bench`. Measuring then would take too long.
        _ => {}
    }
}

fn bench(settings: &Settings) {
    machine::print_environment(settings);
    if settings.growth {
        growth::run(settings);
    } else {
        candidates::run(settings);
    }
}
