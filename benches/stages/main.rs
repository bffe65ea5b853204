//! How long each stage of a request takes, in memory and on one thread. `STAGES=JWT` takes only stages with that in their name.

#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use support::{STAGES, Stage};

/// A stage is set up anew after as many calls: some set up something for each.
const CALLS_MAX: u64 = 20_000;

fn stages(c: &mut Criterion) {
    let wanted = std::env::var("STAGES").unwrap_or_default();
    for stage in STAGES.iter().filter(|stage| stage.name.contains(&wanted)) {
        c.bench_function(stage.name, |bencher| bencher.iter_custom(|calls| time(stage, calls)));
    }
}

/// What so many calls take, without their set-up.
fn time(stage: &Stage, calls: u64) -> Duration {
    let mut left = calls;
    let mut took = Duration::ZERO;
    while left > 0 {
        let now = left.min(CALLS_MAX);
        let mut call = (stage.prepare)(usize::try_from(now).expect("the count is small"));
        let begun = Instant::now();
        for _ in 0..now {
            call();
        }
        took += begun.elapsed();
        left -= now;
    }
    took
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = stages
}
criterion_main!(benches);
