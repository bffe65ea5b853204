//! The time of an authorization as the installation grows: more cached keys, more routes, more address ranges of a key, more
//! different limits of keys. In memory and on one thread, all sizes in alternation. Prints a table, and the same as CSV.

#[path = "support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the stages themselves are for the other runners")]
mod support;

use std::time::{Duration, Instant};

use keygate::cidr::CidrSet;
use keygate::key::KeyDraft;
use keygate::policy::RateLimitPolicy;
use keygate::verifier::ConnectionMemory;
use support::parts::{PEER, Parts, draft, service_target, services};
use support::request::Request;

/// Keys in the cache.
const KEYS: [usize; 4] = [1, 1_000, 100_000, 1_000_000];
const ROUTES: [usize; 4] = [1, 10, 100, 1_000];
/// Address ranges of each key.
const RANGES: [usize; 3] = [1, 10, 50];
/// Different limits of keys.
const LIMITS: [usize; 3] = [1, 1_000, 10_000];
/// Keys in use, in the series in which not all are.
const IN_USE: usize = 1_000;
/// Authorizations of one size in each round.
const AUTHORIZATIONS: usize = 2_000;
const ROUNDS_MAX: usize = 301;
/// No round begins after this time.
const MEASURED_FOR: Duration = Duration::from_secs(60);
/// More than the proof of a key takes, in bytes, so that no proof is evicted.
const PROOF_BYTES: usize = 320;
const PROOF_CACHE_MIN: usize = 1 << 20;

/// The keys of one size.
struct Keys {
    parts: Parts,
    texts: Vec<String>,
    routes: usize,
}

/// One size of an installation.
struct Size {
    series: &'static str,
    name: String,
    keys: Keys,
    /// One key in `step` is in use.
    step: usize,
    /// Nanoseconds per authorization, by round.
    rounds: Vec<f64>,
}

/// Pseudo-random numbers, so that the processor cannot predict the order.
struct Shuffle(u64);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut sizes = sizes();
    let mut shuffle = Shuffle(1);
    for size in &mut sizes {
        size.present_all();
    }
    let begun = Instant::now();
    for _ in 0..ROUNDS_MAX {
        if begun.elapsed() > MEASURED_FOR {
            break;
        }
        for size in &mut sizes {
            size.measure(&mut shuffle);
        }
    }
    report(&sizes);
}

fn sizes() -> Vec<Size> {
    let plain = |_| draft();
    let cached = KEYS.map(|count| {
        let step = count / count.min(IN_USE);
        Size::new("cached keys, 1,000 of them in use", count, Keys::new(count, 1, plain), step)
    });
    let used = KEYS.map(|count| Size::new("cached keys, all in use", count, Keys::new(count, 1, plain), 1));
    let routes = ROUTES.map(|count| Size::new("routes, all in use", count, Keys::new(IN_USE, count, plain), 1));
    let ranges = RANGES.map(|count| {
        let networks = ranges(count);
        let keys = Keys::new(IN_USE, 1, |_| KeyDraft { networks: networks.clone(), ..draft() });
        Size::new("address ranges of a key", count, keys, 1)
    });
    let limits = LIMITS.map(|count| {
        let keys = Keys::new(LIMITS[2], 1, |number| limited(number % count));
        Size::new("different limits of 10,000 keys", count, keys, 1)
    });
    cached.into_iter().chain(used).chain(routes).chain(ranges).chain(limits).collect()
}

/// `count` ranges. The last one contains the client's address.
fn ranges(count: usize) -> CidrSet {
    let others = (1..count).map(|number| format!("10.{number}.0.0/16"));
    let ranges: Vec<String> = others.chain([format!("{PEER}/24")]).collect();
    CidrSet::parse(&ranges).expect("the texts are ranges")
}

/// A key with the limit of this number.
fn limited(number: usize) -> KeyDraft {
    let more = u64::try_from(number).expect("it is small");
    let limit = |policy: RateLimitPolicy| RateLimitPolicy { quota: policy.quota.saturating_add(more), ..policy };
    let draft = draft();
    KeyDraft { rate_limit: draft.rate_limit.map(limit), ..draft }
}

impl Keys {
    fn new(count: usize, routes: usize, draft: impl Fn(usize) -> KeyDraft) -> Self {
        let proof_cache = (count * PROOF_BYTES).max(PROOF_CACHE_MIN);
        let parts = Parts::over(&services(routes), u64::try_from(proof_cache).expect("it is small"));
        let texts = (0..count).map(|number| parts.issue(draft(number)).0).collect();
        Self { parts, texts, routes }
    }

    fn request(&self, key: usize) -> Request {
        let (host, target) = service_target(key % self.routes);
        Request::to(&host, &target, Some(&self.texts[key]))
    }

    /// Every request has a new connection.
    fn authorize(&self, request: &Request) {
        let authorized = self.parts.authorize(&request.head(), &mut ConnectionMemory::default());
        assert!(authorized.is_ok(), "the key is good");
    }
}

impl Size {
    fn new(series: &'static str, count: usize, keys: Keys, step: usize) -> Self {
        Self { series, name: thousands(count), keys, step, rounds: Vec::new() }
    }

    /// Presents all keys in use once, so that their proofs are cached.
    fn present_all(&self) {
        for key in (0..self.keys.texts.len()).step_by(self.step) {
            self.keys.authorize(&self.keys.request(key));
        }
    }

    fn measure(&mut self, shuffle: &mut Shuffle) {
        let in_use = self.keys.texts.len().div_ceil(self.step);
        // Built just before they are measured, as the head of a request is read just before.
        let requests: Vec<_> =
            (0..AUTHORIZATIONS).map(|_| self.keys.request(shuffle.next_below(in_use) * self.step)).collect();
        let begun = Instant::now();
        for request in &requests {
            self.keys.authorize(request);
        }
        #[expect(clippy::cast_precision_loss, reason = "far from the edge")]
        let each = begun.elapsed().as_nanos() as f64 / AUTHORIZATIONS as f64;
        self.rounds.push(each);
    }

    fn ratios(&self, first: &Self) -> Vec<f64> {
        self.rounds.iter().zip(&first.rounds).map(|(ours, theirs)| ours / theirs).collect()
    }
}

impl Shuffle {
    fn next_below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits are a size") % end
    }
}

fn report(sizes: &[Size]) {
    println!("{} rounds of {AUTHORIZATIONS} authorizations of each size in alternation\n", sizes[0].rounds.len());
    println!("| | | ns/authorization | ÷ first | middle half of rounds |\n| --- | ---: | ---: | ---: | ---: |");
    let mut csv = vec!["series,size,ns_per_decision,ratio_to_first".to_owned()];
    for series in sizes.chunk_by(|left, right| left.series == right.series) {
        for size in series {
            let (each, ratios) = (quartiles(size.rounds.clone()), quartiles(size.ratios(&series[0])));
            let (name, [_, each, _], [low, ratio, high]) = (&size.name, each, ratios);
            println!("| {} | {name} | {each:.0} | {ratio:.2} | {low:.2} to {high:.2} |", size.series);
            csv.push(format!("\"{}\",{},{each:.0},{ratio:.3}", size.series, name.replace(',', "")));
        }
    }
    println!("\n{}", csv.join("\n"));
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}
