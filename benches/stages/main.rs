//! Time of each stage of a request, in memory and on one thread. `STAGES=JWT` runs only the stages whose name contains `JWT`.

#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use support::{STAGES, Stage};

/// The maximum number of iterations per set-up. Bounds memory, because some stages prepare data for every iteration.
const ITERATIONS_MAX: u64 = 20_000;

fn stages(c: &mut Criterion) {
    let filter = std::env::var("STAGES").unwrap_or_default();
    for stage in STAGES.iter().filter(|stage| stage.name.contains(&filter)) {
        c.bench_function(stage.name, |bencher| bencher.iter_custom(|iterations| time(stage, iterations)));
    }
}

/// Returns the time of this number of iterations of a stage, without set-up.
fn time(stage: &Stage, iterations: u64) -> Duration {
    let mut remaining = iterations;
    let mut elapsed = Duration::ZERO;
    while remaining > 0 {
        let batch = remaining.min(ITERATIONS_MAX);
        let mut iterate = (stage.prepare)(usize::try_from(batch).expect("the count is small"));
        let started = Instant::now();
        for _ in 0..batch {
            iterate();
        }
        elapsed += started.elapsed();
        remaining -= batch;
    }
    elapsed
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = stages
}
criterion_main!(benches);
