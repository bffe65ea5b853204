//! What a request costs as the work grows: more keys, more routes, more address ranges of a key.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::keygate::{self, Node};
use crate::keys::{SCOPE, fill};
use crate::load::{self, Generator, Traffic, write_requests};
use crate::machine::Cores;
use crate::measured::Measured;
use crate::picture::{Bar, Group};
use crate::results::Results;
use crate::rounds::{Bench, Candidate};
use crate::settings::Settings;
use crate::statistics::range;
use crate::upstream;

/// Keys that there are.
const STORED: [(&str, usize); 3] = [("1,000 keys", 1_000), ("100,000 keys", 100_000), ("1,000,000 keys", 1_000_000)];
const ROUTES: [(&str, usize); 4] = [("1 route", 1), ("10 routes", 10), ("100 routes", 100), ("1,000 routes", 1_000)];
/// Address ranges of each key.
const RANGES: [(&str, usize); 3] = [("1 range", 1), ("10 ranges", 10), ("50 ranges", 50)];
/// Keys in use, whatever else there is.
const IN_USE: usize = 1_000;
/// Bytes that cached keys may take.
const CACHE: u64 = 256 << 20;
/// Keys that a node is expected to read in a second: for so long all keys are presented, so that the cache is as full as it gets.
const FILL_PER_SECOND: usize = 8_000;

/// Nodes that differ in one thing, the first with the least of it.
struct Series {
    title: &'static str,
    /// Its candidates, by number.
    from: usize,
    to: usize,
}

struct Growth<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    upstream: &'a str,
    bench: Bench,
    series: Vec<Series>,
}

/// Measures all of it, prints what came out and keeps it.
pub(crate) fn run(settings: &Settings) {
    let folder = TempDir::new().unwrap();
    let upstream = upstream::start();
    let bench = Bench { servers: Vec::new(), candidates: Vec::new(), load: Generator::new(folder.path()) };
    let mut growth = Growth { settings, folder: folder.path(), upstream: &upstream.address, bench, series: Vec::new() };
    growth.add("Keys in the database, 1,000 of them in use", Growth::add_stored);
    growth.add("Routes, all of them in use", Growth::add_routes);
    growth.add("Address ranges of each key", Growth::add_ranges);
    let measured = growth.bench.run(settings);
    let groups: Vec<Group> = growth.series.iter().map(|series| series.report(&measured)).collect();
    let title = "CPU time of Keygate, µs for each request";
    Results { suffix: "-growth", title, measured: &measured, rows: &[], groups: &groups }.write(settings);
}

impl Growth<'_> {
    fn add(&mut self, title: &'static str, candidates: fn(&mut Self)) {
        let from = self.bench.candidates.len();
        candidates(self);
        self.series.push(Series { title, from, to: self.bench.candidates.len() });
    }

    fn add_stored(&mut self) {
        for (name, stored) in STORED {
            eprintln!("storing {name}");
            let keys = self.fill(name, stored, &[]);
            let gateway = keygate::gateway(self.upstream, &["ample"]);
            let in_use: Vec<String> = keys.iter().step_by(stored / IN_USE).cloned().collect();
            self.start(name, gateway, in_use.iter().map(|key| ("/", key.as_str())));
            let server = self.bench.servers.last().unwrap();
            if stored > IN_USE {
                let file = self.folder.join(format!("all {name}"));
                write_requests(&file, keys.iter().map(|key| ("/", key.as_str())));
                let task = load::Task {
                    traffic: Traffic::Full,
                    address: &server.address,
                    requests: &file,
                    seconds: u64::try_from(stored / FILL_PER_SECOND).unwrap(),
                    cores: Cores::Load,
                };
                let sent = self.bench.load.run(&task).requests;
                println!("{name}: {sent} requests with all of them in turn");
            }
        }
    }

    fn add_routes(&mut self) {
        for (name, count) in ROUTES {
            let keys = self.fill(name, IN_USE, &[]);
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
            let paths: Vec<String> = (0..IN_USE).map(|number| format!("/route-{}/orders", number % count)).collect();
            let requests = paths.iter().zip(&keys).map(|(path, key)| (path.as_str(), key.as_str()));
            self.start(name, gateway, requests);
        }
    }

    fn add_ranges(&mut self) {
        for (name, count) in RANGES {
            // The one that the load comes from is the last.
            let others = (1..count).map(|number| format!("10.{number}.0.0/16"));
            let ranges: Vec<String> = others.chain(["127.0.0.0/8".to_owned()]).collect();
            let keys = self.fill(name, IN_USE, &ranges);
            let gateway = keygate::gateway(self.upstream, &["ample"]);
            self.start(name, gateway, keys.iter().map(|key| ("/", key.as_str())));
        }
    }

    /// The keys of a node to be, in its folder.
    fn fill(&self, name: &str, count: usize, ranges: &[String]) -> Vec<String> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        fill(&keygate::database(&folder), count, ranges)
    }

    fn start<'b>(&mut self, name: &str, gateway: Value, requests: impl IntoIterator<Item = (&'b str, &'b str)>) {
        let folder = self.folder.join(name);
        let sections = json!({"cache": {"ttl": keygate::CACHE_TTL, "memory": {"max_size": CACHE}}});
        let node = Node { sections, ..Node::new(name, &folder, gateway) }.start(self.settings);
        let file = folder.join("requests");
        write_requests(&file, requests);
        self.bench.candidates.push(Candidate::new(name, self.bench.servers.len(), file));
        self.bench.servers.push(node.server);
    }
}

impl Series {
    /// Prints a table of it; its bars.
    fn report(&self, measured: &[Measured]) -> Group {
        let measured = &measured[self.from..self.to];
        println!("\n| {} | CPU µs/request (user) | ÷ first | least to greatest | memory MiB |", self.title);
        println!("| --- | ---: | ---: | ---: | ---: |");
        let bars = measured.iter().map(|point| {
            let (micros, ratio) = (point.cpu_micros(), point.cpu_ratio(&measured[0]));
            let (least, greatest) = range(point.cpu_ratios(&measured[0]));
            println!(
                "| {} | {micros:.1} ({:.1}) | {ratio:.2} | {least:.2} to {greatest:.2} | {:.0} |",
                point.name,
                point.user_micros(),
                point.resident_mib(),
            );
            Bar { name: point.name.clone(), value: micros, note: format!("{micros:.1} µs, {ratio:.2}"), is_ours: true }
        });
        Group { title: self.title.to_owned(), bars: bars.collect() }
    }
}
