//! Time of an authorization in installations of different sizes: number of cached keys, of routes, of address ranges of a key, and of
//! different limits of keys. Runs in memory and on one thread. All sizes are measured alternately. The results are printed as a table and
//! as CSV.

#[path = "support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the stages are used by other benchmarks")]
mod support;

use std::time::{Duration, Instant};

use keygate::cidr::CidrSet;
use keygate::key::KeyDraft;
use keygate::policy::RateLimitPolicy;
use keygate::verifier::ConnectionMemory;
use support::parts::{PEER, Parts, draft, service_target, services};
use support::request::Request;

/// The numbers of cached keys.
const KEYS: [usize; 4] = [1, 1_000, 100_000, 1_000_000];
/// The numbers of routes.
const ROUTES: [usize; 4] = [1, 10, 100, 1_000];
/// The numbers of address ranges of each key.
const RANGES: [usize; 3] = [1, 10, 50];
/// The numbers of different limits of `LIMITS[2]` keys.
const LIMITS: [usize; 3] = [1, 1_000, 10_000];
/// The number of keys in use in series in which not all cached keys are in use.
const IN_USE: usize = 1_000;
/// The number of authorizations of each size per round.
const AUTHORIZATIONS: usize = 2_000;
const ROUNDS_MAX: usize = 301;
/// No round starts after this time.
const MEASUREMENT_TIME: Duration = Duration::from_secs(60);
/// The size of the proof cache per key, in bytes. An entry is smaller, so no proof is evicted.
const PROOF_BYTES: usize = 320;
/// The minimum size of the proof cache in bytes.
const PROOF_CACHE_MIN: usize = 1 << 20;

/// An installation: the verifier and the pipeline, the texts of all keys, and the number of routes.
struct Keys {
    parts: Parts,
    texts: Vec<String>,
    routes: usize,
}

/// A row of the table: one size in a series, and its measurements.
struct Size {
    series: &'static str,
    name: String,
    keys: Keys,
    /// One key in `step` is in use.
    step: usize,
    /// Nanoseconds per authorization, by round.
    rounds: Vec<f64>,
}

/// A generator of pseudo-random numbers. They make the order of keys unpredictable for the processor.
struct Random(u64);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut sizes = sizes();
    let mut random = Random(1);
    for size in &mut sizes {
        size.warm_up();
    }
    let begun = Instant::now();
    for _ in 0..ROUNDS_MAX {
        if begun.elapsed() > MEASUREMENT_TIME {
            break;
        }
        for size in &mut sizes {
            size.measure(&mut random);
        }
    }
    report(&sizes);
}

fn sizes() -> Vec<Size> {
    let same_draft = |_| draft();
    let cached = KEYS.map(|count| {
        let step = count / count.min(IN_USE);
        Size::new("cached keys, 1,000 of them in use", count, Keys::new(count, 1, same_draft), step)
    });
    let all_in_use = KEYS.map(|count| Size::new("cached keys, all in use", count, Keys::new(count, 1, same_draft), 1));
    let routes = ROUTES.map(|count| Size::new("routes, all in use", count, Keys::new(IN_USE, count, same_draft), 1));
    let ranges = RANGES.map(|count| {
        let networks = ranges(count);
        let keys = Keys::new(IN_USE, 1, |_| KeyDraft { networks: networks.clone(), ..draft() });
        Size::new("address ranges of a key", count, keys, 1)
    });
    let limits = LIMITS.map(|count| {
        let keys = Keys::new(LIMITS[2], 1, |number| draft_with_limit(number % count));
        Size::new("different limits of 10,000 keys", count, keys, 1)
    });
    cached.into_iter().chain(all_in_use).chain(routes).chain(ranges).chain(limits).collect()
}

/// `count` address ranges. Only the last one contains the client's address, so all are checked.
fn ranges(count: usize) -> CidrSet {
    let others = (1..count).map(|number| format!("10.{number}.0.0/16"));
    let ranges: Vec<String> = others.chain([format!("{PEER}/24")]).collect();
    CidrSet::parse(&ranges).expect("the ranges are valid")
}

/// A key whose quota is higher by `number`, so that different numbers have different limits.
fn draft_with_limit(number: usize) -> KeyDraft {
    let more = u64::try_from(number).expect("the number is small");
    let limit = |policy: RateLimitPolicy| RateLimitPolicy { quota: policy.quota.saturating_add(more), ..policy };
    let draft = draft();
    KeyDraft { rate_limit: draft.rate_limit.map(limit), ..draft }
}

impl Keys {
    fn new(count: usize, routes: usize, draft: impl Fn(usize) -> KeyDraft) -> Self {
        let proof_cache = (count * PROOF_BYTES).max(PROOF_CACHE_MIN);
        let parts = Parts::with_config(&services(routes), u64::try_from(proof_cache).expect("the size is small"));
        let texts = (0..count).map(|number| parts.issue(draft(number)).0).collect();
        Self { parts, texts, routes }
    }

    fn request(&self, key: usize) -> Request {
        let (host, target) = service_target(key % self.routes);
        Request::to(&host, &target, Some(&self.texts[key]))
    }

    /// Authorizes a request on a new connection.
    fn authorize(&self, request: &Request) {
        let authorized = self.parts.authorize(&request.head(), &mut ConnectionMemory::default());
        assert!(authorized.is_ok(), "the key is valid");
    }
}

impl Size {
    fn new(series: &'static str, count: usize, keys: Keys, step: usize) -> Self {
        Self { series, name: with_commas(count), keys, step, rounds: Vec::new() }
    }

    /// Authorizes one request with each key in use, so that its proof is cached.
    fn warm_up(&self) {
        for key in (0..self.keys.texts.len()).step_by(self.step) {
            self.keys.authorize(&self.keys.request(key));
        }
    }

    /// Runs one round.
    fn measure(&mut self, random: &mut Random) {
        let in_use = self.keys.texts.len().div_ceil(self.step);
        // Built immediately before the measurement, because the gateway also reads the request head immediately before the authorization.
        let requests: Vec<_> =
            (0..AUTHORIZATIONS).map(|_| self.keys.request(random.next_below(in_use) * self.step)).collect();
        let begun = Instant::now();
        for request in &requests {
            self.keys.authorize(request);
        }
        #[expect(clippy::cast_precision_loss, reason = "the times are small enough to be exact")]
        let mean = begun.elapsed().as_nanos() as f64 / AUTHORIZATIONS as f64;
        self.rounds.push(mean);
    }

    /// The ratio to the first size of the series, by round.
    fn ratios(&self, first: &Self) -> Vec<f64> {
        self.rounds.iter().zip(&first.rounds).map(|(this, first)| this / first).collect()
    }
}

impl Random {
    /// A number below `end`.
    fn next_below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits fit into a usize") % end
    }
}

fn report(sizes: &[Size]) {
    println!("{} rounds of {AUTHORIZATIONS} authorizations of each size in alternation\n", sizes[0].rounds.len());
    println!("| | | ns/authorization | ÷ first | interquartile range |\n| --- | ---: | ---: | ---: | ---: |");
    let mut csv = vec!["series,size,ns_per_authorization,ratio_to_first".to_owned()];
    for series in sizes.chunk_by(|left, right| left.series == right.series) {
        for size in series {
            let (times, ratios) = (quartiles(size.rounds.clone()), quartiles(size.ratios(&series[0])));
            let (name, [_, median, _], [low, ratio, high]) = (&size.name, times, ratios);
            println!("| {} | {name} | {median:.0} | {ratio:.2} | {low:.2} to {high:.2} |", size.series);
            csv.push(format!("\"{}\",{},{median:.0},{ratio:.3}", size.series, name.replace(',', "")));
        }
    }
    println!("\n{}", csv.join("\n"));
}

/// The lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

/// The number with commas between groups of three digits.
fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}
