//! What a request costs: Keygate, a bare pingora proxy, and other gateways doing the nearest equivalent, in alternation on the same
//! cores. `make bench` builds and runs it; docs/performance.md tells how to read it.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

#[expect(dead_code, reason = "the tests' helpers, of which not all are needed here")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

mod candidates;
mod comparisons;
mod cpu;
mod growth;
mod idle;
mod keeper;
mod keygate;
mod keys;
mod line_up;
mod load;
mod machine;
mod measured;
mod peers;
mod picture;
mod results;
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
        // Whoever runs all targets does not want to wait for this.
        _ => {}
    }
}

fn bench(settings: &Settings) {
    machine::print(settings);
    if settings.growth {
        growth::run(settings);
    } else {
        candidates::run(settings);
    }
}
