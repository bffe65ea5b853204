//! Measures the CPU cost of a request as the number of keys, of routes, or of address ranges per key grows.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bar_chart::{Bar, Group};
use crate::keygate::{self, NodeConfig};
use crate::keys::{SCOPE, insert_keys};
use crate::load::{self, Generator, Traffic, write_requests};
use crate::machine::Cores;
use crate::measurements::Measurements;
use crate::results::Results;
use crate::rounds::{Bench, Candidate};
use crate::settings::Settings;
use crate::statistics::range;
use crate::upstream;

/// Keys in the database.
const STORED_KEYS: [(&str, usize); 3] =
    [("1,000 keys", 1_000), ("100,000 keys", 100_000), ("1,000,000 keys", 1_000_000)];
const ROUTES: [(&str, usize); 4] = [("1 route", 1), ("10 routes", 10), ("100 routes", 100), ("1,000 routes", 1_000)];
/// Address ranges of each key.
const ADDRESS_RANGES: [(&str, usize); 3] = [("1 range", 1), ("10 ranges", 10), ("50 ranges", 50)];
/// Keys that the load presents, in all series.
const KEYS_IN_USE: usize = 1_000;
/// The maximum size of the key cache, in bytes.
const CACHE_SIZE: u64 = 256 << 20;
/// The number of keys that a node is expected to read from the database per second. It determines for how long all stored keys are
/// presented before the measurement, to fill the cache.
const KEYS_READ_PER_SECOND: usize = 8_000;

/// Candidates that differ in one parameter, in ascending order of that parameter.
struct Series {
    title: &'static str,
    /// The index of its first candidate in [`Bench::candidates`].
    start: usize,
    /// The index after its last candidate.
    end: usize,
}

/// A bench under construction, with its series.
struct Growth<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    upstream: &'a str,
    bench: Bench,
    series: Vec<Series>,
}

/// Measures all series, prints their tables and writes the result files.
pub(crate) fn run(settings: &Settings) {
    let folder = TempDir::new().unwrap();
    let upstream = upstream::start();
    let bench = Bench { servers: Vec::new(), candidates: Vec::new(), load: Generator::new(folder.path()) };
    let mut growth = Growth { settings, folder: folder.path(), upstream: &upstream.address, bench, series: Vec::new() };
    growth.add_series("Keys in the database, 1,000 of them in use", Growth::add_stored);
    growth.add_series("Routes, all of them in use", Growth::add_routes);
    growth.add_series("Address ranges of each key", Growth::add_ranges);
    let measured = growth.bench.run(settings);
    let groups: Vec<Group> = growth.series.iter().map(|series| series.report(&measured)).collect();
    let title = "CPU time of Keygate in µs per request";
    Results { suffix: "-growth", title, measured: &measured, rows: &[], groups: &groups }.write(settings);
}

impl Growth<'_> {
    fn add_series(&mut self, title: &'static str, add_candidates: fn(&mut Self)) {
        let start = self.bench.candidates.len();
        add_candidates(self);
        self.series.push(Series { title, start, end: self.bench.candidates.len() });
    }

    fn add_stored(&mut self) {
        for (name, stored) in STORED_KEYS {
            eprintln!("storing {name}");
            let keys = self.create_database(name, stored, &[]);
            let gateway = keygate::gateway(self.upstream, &["ample"]);
            let in_use: Vec<String> = keys.iter().step_by(stored / KEYS_IN_USE).cloned().collect();
            self.start(name, gateway, in_use.iter().map(|key| ("/", key.as_str())));
            let server = self.bench.servers.last().unwrap();
            if stored > KEYS_IN_USE {
                let file = self.folder.join(format!("all {name}"));
                write_requests(&file, keys.iter().map(|key| ("/", key.as_str())));
                let task = load::Task {
                    traffic: Traffic::Full,
                    address: &server.address,
                    requests: &file,
                    seconds: u64::try_from(stored / KEYS_READ_PER_SECOND).unwrap(),
                    cores: Cores::Load,
                };
                let sent = self.bench.load.run(&task).requests;
                println!("{name}: sent {sent} requests, cycling through all keys");
            }
        }
    }

    fn add_routes(&mut self) {
        for (name, count) in ROUTES {
            let keys = self.create_database(name, KEYS_IN_USE, &[]);
            let route = |number: usize| {
                json!({
                    "name": format!("route-{number}"), "path_prefix": format!("/route-{number}"), "upstream": "api",
                    "scopes": [SCOPE], "limits": ["ample"],
                })
            };
            let gateway = json!({
                "routes": (0..count).map(route).collect::<Vec<Value>>(),
                "upstreams": keygate::upstreams(self.upstream),
                "limits": keygate::ample_limit(),
            });
            let paths: Vec<String> =
                (0..KEYS_IN_USE).map(|number| format!("/route-{}/orders", number % count)).collect();
            let requests = paths.iter().zip(&keys).map(|(path, key)| (path.as_str(), key.as_str()));
            self.start(name, gateway, requests);
        }
    }

    fn add_ranges(&mut self) {
        for (name, count) in ADDRESS_RANGES {
            // The range of the load generator comes last: ranges are scanned in order.
            let others = (1..count).map(|number| format!("10.{number}.0.0/16"));
            let ranges: Vec<String> = others.chain(["127.0.0.0/8".to_owned()]).collect();
            let keys = self.create_database(name, KEYS_IN_USE, &ranges);
            let gateway = keygate::gateway(self.upstream, &["ample"]);
            self.start(name, gateway, keys.iter().map(|key| ("/", key.as_str())));
        }
    }

    /// Creates the folder and the database of a node, and returns the texts of its keys.
    fn create_database(&self, name: &str, count: usize, ranges: &[String]) -> Vec<String> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        insert_keys(&keygate::database(&folder), count, ranges)
    }

    /// Starts a node in the folder `name` and adds it as a candidate.
    fn start<'b>(&mut self, name: &str, gateway: Value, requests: impl IntoIterator<Item = (&'b str, &'b str)>) {
        let folder = self.folder.join(name);
        let sections = json!({"cache": {"ttl": keygate::CACHE_TTL, "memory": {"max_size": CACHE_SIZE}}});
        let node = NodeConfig { sections, ..NodeConfig::new(name, &folder, gateway) }.start(self.settings);
        let file = folder.join("requests");
        write_requests(&file, requests);
        self.bench.candidates.push(Candidate::new(name, self.bench.servers.len(), file));
        self.bench.servers.push(node.server);
    }
}

impl Series {
    /// Prints the table of the series and returns its bars.
    fn report(&self, measured: &[Measurements]) -> Group {
        let measured = &measured[self.start..self.end];
        println!("\n| {} | CPU µs/request (user) | ÷ first | minimum to maximum | memory MiB |", self.title);
        println!("| --- | ---: | ---: | ---: | ---: |");
        let bars = measured.iter().map(|point| {
            let (micros, ratio) = (point.cpu_micros(), point.cpu_ratio(&measured[0]));
            let (min, max) = range(point.cpu_ratios(&measured[0]));
            println!(
                "| {} | {micros:.1} ({:.1}) | {ratio:.2} | {min:.2} to {max:.2} | {:.0} |",
                point.name,
                point.user_micros(),
                point.resident_mib(),
            );
            let note = format!("{micros:.1} µs, {ratio:.2}");
            Bar { name: point.name.clone(), value: micros, note, is_keygate: true }
        });
        Group { title: self.title.to_owned(), bars: bars.collect() }
    }
}
