//! The comparison: who takes part, with what.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::keygate::{self, ISSUER, Keygate, Node};
use crate::keys::{fill, forge};
use crate::load::{Generator, write_requests};
use crate::machine::{PROXY_CORE, pinned};
use crate::peers::{AUTHORIZED_PEERS, PEERS, Task};
use crate::picture::{Bar, Group};
use crate::results::Results;
use crate::rounds::{Bench, Candidate, Measured};
use crate::server::Server;
use crate::settings::Settings;
use crate::statistics::median;
use crate::table::{self, Pair};
use crate::upstream;
use keygate_test_servers::free_port;

/// Keys that every gateway knows, and that are presented one after the other.
const KEYS: usize = 10_000;
/// Tokens of each kind.
const TOKENS: usize = 1_000;

/// What is of interest of all the ratios.
const PAIRS: [Pair; 16] = [
    Pair { what: "keys ÷ bare pingora", one: "Keygate, keys", other: "bare pingora" },
    Pair { what: "keys + limit ÷ bare pingora", one: "Keygate, keys + limit", other: "bare pingora" },
    Pair {
        what: "keys + limit + all fields ÷ bare pingora",
        one: "Keygate, keys + limit + all fields",
        other: "bare pingora",
    },
    Pair { what: "one key ÷ bare pingora", one: "Keygate, one key", other: "bare pingora" },
    Pair { what: "JWT ÷ keys + limit", one: "Keygate, JWT", other: "Keygate, keys + limit" },
    Pair { what: "macaroon ÷ keys + limit", one: "Keygate, macaroon", other: "Keygate, keys + limit" },
    Pair { what: "keys + log ÷ keys", one: "Keygate, keys + log", other: "Keygate, keys" },
    Pair { what: "keys + limit ÷ nginx map", one: "Keygate, keys + limit", other: "nginx map" },
    Pair { what: "keys + limit ÷ nginx auth_request", one: "Keygate, keys + limit", other: "nginx auth_request" },
    Pair { what: "keys + limit ÷ HAProxy", one: "Keygate, keys + limit", other: "HAProxy" },
    Pair { what: "keys + limit ÷ Envoy", one: "Keygate, keys + limit", other: "Envoy" },
    Pair { what: "chunked responses ÷ HAProxy", one: "Keygate, chunked", other: "HAProxy, chunked" },
    Pair { what: "chunked responses ÷ nginx map", one: "Keygate, chunked", other: "nginx map, chunked" },
    // The more refusals a core makes in a second, the less CPU time each takes.
    Pair {
        what: "refusals per core and second ÷ those of nginx map",
        one: "nginx map, garbage",
        other: "Keygate, garbage",
    },
    Pair {
        what: "refusals per core and second ÷ those of HAProxy",
        one: "HAProxy, garbage",
        other: "Keygate, garbage",
    },
    Pair { what: "refusals per core and second ÷ those of Envoy", one: "Envoy, garbage", other: "Keygate, garbage" },
];

/// What external authorization costs, compared with Keygate's own gateway and with each proxy's own check.
const AUTH_PAIRS: [Pair; 6] = [
    Pair {
        what: "nginx, Keygate auth_request ÷ Keygate, keys + limit",
        one: "nginx, Keygate auth_request",
        other: "Keygate, keys + limit",
    },
    Pair {
        what: "nginx, Keygate auth_request ÷ nginx auth_request",
        one: "nginx, Keygate auth_request",
        other: "nginx auth_request",
    },
    Pair {
        what: "Envoy, Keygate ext_authz HTTP ÷ Keygate, keys + limit",
        one: "Envoy, Keygate ext_authz HTTP",
        other: "Keygate, keys + limit",
    },
    Pair { what: "Envoy, Keygate ext_authz HTTP ÷ Envoy", one: "Envoy, Keygate ext_authz HTTP", other: "Envoy" },
    Pair {
        what: "Envoy, Keygate ext_authz gRPC ÷ Keygate, keys + limit",
        one: "Envoy, Keygate ext_authz gRPC",
        other: "Keygate, keys + limit",
    },
    Pair { what: "Envoy, Keygate ext_authz gRPC ÷ Envoy", one: "Envoy, Keygate ext_authz gRPC", other: "Envoy" },
];

/// Measures everybody, prints what came out and keeps it.
pub(crate) fn run(settings: &Settings) {
    let folder = TempDir::new().unwrap();
    let upstream = upstream::start();
    let mut bench = line_up(settings, folder.path(), &upstream.address);
    if settings.only_auth {
        let compared = |name: &str| AUTH_PAIRS.iter().any(|pair| [pair.one, pair.other].contains(&name));
        // All ratios are to the first.
        let first = bench.candidates[0].name.clone();
        bench.candidates.retain(|candidate| candidate.name == first || compared(&candidate.name));
    }
    let measured = bench.run(settings);
    let pairs = table::pairs(&measured, PAIRS.iter().chain(&AUTH_PAIRS));
    println!("\n{}\n{pairs}\n{}", table::all(&measured), table::authorizers(&measured));
    let bars = measured.iter().map(|candidate| bar(candidate, &measured[0])).collect();
    let title = format!("CPU time of the proxy, µs for each request, {KEYS} keys");
    let groups = [Group { title: "and its ratio to bare pingora".to_owned(), bars }];
    let suffix = if settings.only_auth { "-auth" } else { "" };
    Results { suffix, title: &title, measured: &measured, groups: &groups }.write(settings);
}

fn bar(candidate: &Measured, yardstick: &Measured) -> Bar {
    let (value, ratio) = (candidate.cpu_micros(), median(candidate.ratios(yardstick)));
    Bar {
        name: candidate.name.clone(),
        value,
        note: format!("{value:.1} µs, {ratio:.2}"),
        is_ours: candidate.name.starts_with("Keygate"),
    }
}

/// Starts everybody.
fn line_up(settings: &Settings, folder: &Path, upstream: &str) -> Bench {
    let keys = fill(&keygate::database(folder), KEYS, &[]);
    let mut line_up =
        LineUp { folder, bench: Bench { servers: Vec::new(), candidates: Vec::new(), load: Generator::new(folder) } };
    let good = line_up.requests("keys", &keys);
    let chunked = line_up.requests_to(crate::upstream::CHUNKED_PATH, "chunked", &keys);
    let forged = line_up.requests("garbage", &forge(&keys));

    let bare = line_up.add(start_bare(settings, upstream));
    line_up.measure("bare pingora", bare, &good);
    line_up.add_keygate(settings, upstream, &keys);
    for peer in PEERS {
        let Some(server) = peer.start(&Task { folder, upstream, keys: &keys, authorizer: None }) else { continue };
        let server = line_up.add(server);
        line_up.measure(peer.name, server, &good);
        if peer.name != "nginx auth_request" {
            line_up.measure(&format!("{}, chunked", peer.name), server, &chunked);
            line_up.refuse(&format!("{}, garbage", peer.name), server, &forged);
        }
    }
    line_up.add_authorized_peers(settings, upstream, &good);
    line_up.bench
}

/// Those who take part, as they come.
struct LineUp<'a> {
    folder: &'a Path,
    bench: Bench,
}

impl LineUp<'_> {
    /// The number of a server from now on.
    fn add(&mut self, server: Server) -> usize {
        self.bench.servers.push(server);
        self.bench.servers.len() - 1
    }

    fn measure(&mut self, name: &str, server: usize, requests: &Path) {
        self.candidate(name, server, requests, false);
    }

    fn refuse(&mut self, name: &str, server: usize, requests: &Path) {
        self.candidate(name, server, requests, true);
    }

    fn candidate(&mut self, name: &str, server: usize, requests: &Path, refused: bool) {
        self.bench.candidates.push(Candidate { name: name.to_owned(), server, requests: requests.to_owned(), refused });
    }

    /// A file with requests that present one credential each.
    fn requests(&self, name: &str, credentials: &[String]) -> PathBuf {
        self.requests_to("/", name, credentials)
    }

    /// A file with requests to a path that present one credential each.
    fn requests_to(&self, path: &str, name: &str, credentials: &[String]) -> PathBuf {
        let file = self.folder.join(format!("{name}.requests"));
        write_requests(&file, credentials.iter().map(|credential| (path, credential.as_str())));
        file
    }

    /// The folder of a node to be, with the keys in it.
    fn node_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(keygate::database(self.folder), keygate::database(&folder)).unwrap();
        folder
    }

    /// Proxies that ask Keygate, each with a Keygate of its own, so that CPU time is known for each.
    fn add_authorized_peers(&mut self, settings: &Settings, upstream: &str, requests: &Path) {
        for peer in AUTHORIZED_PEERS {
            let name = format!("authorizer of {}", peer.name);
            let folder = self.node_folder(&name);
            let gateway = keygate::gateway(upstream, &["ample"]);
            let node = Node { name: &name, folder: &folder, gateway, sections: Value::Null }.start_authorizer(settings);
            let task = Task { folder: self.folder, upstream, keys: &[], authorizer: Some(&node.server.address) };
            let Some(server) = peer.start(&task) else { continue };
            let server = self.add(server.with_authorizer(node.server));
            self.measure(peer.name, server, requests);
        }
    }

    /// Keygate in all its parts: one process for each configuration.
    fn add_keygate(&mut self, settings: &Settings, upstream: &str, keys: &[String]) {
        let signing = keygate::make_signing_key(settings, self.folder);
        let tokens = json!({"jwt": {"signing_keys": {"urls": [format!("file://{}", signing.display())]}}});
        let credentials = json!({"issuer": ISSUER, "derived_tokens": tokens});
        let start_with = |name: &str, gateway: Value, sections: Value| -> Keygate {
            let folder = self.node_folder(name);
            Node { name, folder: &folder, gateway, sections }.start(settings)
        };
        let start =
            |name: &str, limits: &[&str], sections| start_with(name, keygate::gateway(upstream, limits), sections);
        let plain = start("keygate", &[], Value::Null);
        let limited = start("keygate-limited", &["ample"], json!({"credentials": credentials}));
        let logged = start("keygate-logged", &[], json!({"log": {"level": "info"}}));
        let mut every_field = keygate::gateway(upstream, &["ample"]);
        every_field.as_object_mut().unwrap().remove("request_headers");
        let every_field = start_with("keygate-every-field", every_field, Value::Null);

        let [jwts, macaroons] = [("jwt", "TOKEN_ALGORITHM_JWT"), ("macaroon", "TOKEN_ALGORITHM_MACAROON")]
            .map(|(name, algorithm)| self.requests(name, &limited.derive(&keys[..TOKENS], algorithm)));
        let [good, one, forged] =
            [self.requests("keys", keys), self.requests("one", &keys[..1]), self.requests("garbage", &forge(keys))];
        let [plain, limited, logged, every_field] =
            [plain, limited, logged, every_field].map(|node| self.add(node.server));
        self.measure("Keygate, keys", plain, &good);
        self.measure("Keygate, keys + limit", limited, &good);
        self.measure("Keygate, keys + limit + all fields", every_field, &good);
        self.measure("Keygate, one key", limited, &one);
        self.measure("Keygate, JWT", limited, &jwts);
        self.measure("Keygate, macaroon", limited, &macaroons);
        let chunked = self.requests_to(crate::upstream::CHUNKED_PATH, "chunked", keys);
        self.measure("Keygate, chunked", limited, &chunked);
        self.refuse("Keygate, garbage", limited, &forged);
        self.measure("Keygate, keys + log", logged, &good);
    }
}

fn start_bare(settings: &Settings, upstream: &str) -> Server {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = pinned(PROXY_CORE, &settings.bare);
    command.args([&address, upstream]);
    Server::start("bare-proxy", command, address).expect("the bare proxy starts")
}
