//! The candidates: who takes part, with what.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::keygate::{self, ISSUER, Keygate, Node};
use crate::keys::{fill, forge};
use crate::load::{Generator, Traffic, write_requests};
use crate::machine::Cores;
use crate::peers::{self, AUTHORIZED_PEERS, PEERS, Peer, Task};
use crate::rounds::{Bench, Candidate};
use crate::server::Server;
use crate::settings::Settings;
use crate::tls::Certificate;
use crate::upstream::CHUNKED_PATH;
use keygate_test_servers::free_port;

/// Keys that every gateway knows, and that are presented one after the other.
pub(crate) const KEYS: usize = 10_000;
/// Tokens of each kind.
const TOKENS: usize = 1_000;

/// Those who take part, as they come.
struct LineUp<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    upstream: &'a str,
    keys: Vec<String>,
    certificate: Certificate,
    requests: Requests,
    bench: Bench,
}

/// Files with requests, by what they present.
struct Requests {
    keys: PathBuf,
    one_key: PathBuf,
    chunked: PathBuf,
    forged: PathBuf,
}

/// Starts everybody.
pub(crate) fn line_up(settings: &Settings, folder: &Path, upstream: &str) -> Bench {
    let keys = fill(&keygate::database(folder), KEYS, &[]);
    let requests = Requests {
        keys: write(folder, "keys", "/", &keys),
        one_key: write(folder, "one", "/", &keys[..1]),
        chunked: write(folder, "chunked", CHUNKED_PATH, &keys),
        forged: write(folder, "forged", "/", &forge(&keys)),
    };
    let bench = Bench { servers: Vec::new(), candidates: Vec::new(), load: Generator::new(folder) };
    let mut line_up = LineUp { settings, folder, upstream, keys, certificate: Certificate::new(), requests, bench };
    line_up.add_bare();
    line_up.add_keygate();
    line_up.add_keygate_with_limit();
    for peer in &PEERS {
        line_up.add_peer(peer);
    }
    line_up.add_with_tls();
    line_up.add_with_two_workers();
    line_up.add_authorized_peers();
    line_up.bench
}

impl LineUp<'_> {
    /// The number of a server from now on.
    fn add(&mut self, server: Server) -> usize {
        self.bench.servers.push(server);
        self.bench.servers.len() - 1
    }

    /// A candidate with all keys in rotation.
    fn measure(&mut self, name: &str, server: usize) -> &mut Candidate {
        let requests = self.requests.keys.clone();
        self.measure_with(name, server, requests)
    }

    fn measure_with(&mut self, name: &str, server: usize, requests: PathBuf) -> &mut Candidate {
        self.bench.candidates.push(Candidate::new(name, server, requests));
        self.bench.candidates.last_mut().unwrap()
    }

    fn add_bare(&mut self) {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Cores::Proxy.command(&self.settings.bare);
        command.args([&address, self.upstream]);
        let server = self.add(Server::start("bare-proxy", command, address).expect("the bare proxy starts"));
        self.measure("bare pingora", server);
        self.measure_http2("bare pingora, HTTP/2", server);
    }

    fn measure_http2(&mut self, name: &str, server: usize) {
        if Traffic::Http2.is_available() {
            self.measure(name, server).traffic = Traffic::Http2;
        } else {
            println!("{name}: h2load is not installed, it is left out");
        }
    }

    /// The folder of a node to be, with the keys in it.
    fn node_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(keygate::database(self.folder), keygate::database(&folder)).unwrap();
        folder
    }

    /// Starts a Keygate with the keys; `change` says how it differs from one with one worker and a listener in clear text.
    fn start_keygate(&self, name: &str, limits: &[&str], change: impl FnOnce(&mut Node<'_>)) -> Keygate {
        let folder = self.node_folder(name);
        let mut node = Node::new(name, &folder, keygate::gateway(self.upstream, limits));
        change(&mut node);
        node.start(self.settings)
    }

    /// Keygate without a limit.
    fn add_keygate(&mut self) {
        let plain = self.start_keygate("keygate", &[], |_| {});
        let logged = self.start_keygate("keygate-logged", &[], |node| {
            node.gateway["access_log"] = json!({"enabled": true});
        });
        let [plain, logged] = [plain, logged].map(|node| self.add(node.server));
        self.measure("Keygate, keys", plain);
        self.measure("Keygate, keys + log", logged);
    }

    /// Keygate with a limit, which every other gateway has, too.
    fn add_keygate_with_limit(&mut self) {
        let every_field = self.start_keygate("keygate-every-field", &["ample"], |node| {
            node.gateway.as_object_mut().unwrap().remove("request_headers");
        });
        let signing = keygate::make_signing_key(self.settings, self.folder);
        let tokens = json!({"jwt": {"signing_keys": {"urls": [format!("file://{}", signing.display())]}}});
        let sections: Value = json!({"credentials": {"issuer": ISSUER, "derived_tokens": tokens}});
        let limited = self.start_keygate("keygate-limited", &["ample"], |node| node.sections = sections);
        let [jwts, macaroons] = [("jwt", "TOKEN_ALGORITHM_JWT"), ("macaroon", "TOKEN_ALGORITHM_MACAROON")]
            .map(|(name, algorithm)| write(self.folder, name, "/", &limited.derive(&self.keys[..TOKENS], algorithm)));

        let [limited, every_field] = [limited, every_field].map(|node| self.add(node.server));
        self.measure("Keygate, keys + limit", limited);
        self.measure("Keygate, keys + limit + all fields", every_field);
        self.measure_with("Keygate, one key", limited, self.requests.one_key.clone());
        self.measure_with("Keygate, JWT", limited, jwts);
        self.measure_with("Keygate, macaroon", limited, macaroons);
        self.measure_with("Keygate, chunked", limited, self.requests.chunked.clone());
        self.measure_with("Keygate, forged keys", limited, self.requests.forged.clone()).refused = true;
        self.measure("Keygate, 5,000/s", limited).traffic = Traffic::FixedRate;
        self.measure_http2("Keygate, HTTP/2", limited);
    }

    /// What another gateway is given: one worker, a listener in clear text, and the keys.
    fn task(&self) -> Task<'_> {
        Task { keys: &self.keys, ..Task::new(self.folder, self.upstream) }
    }

    fn add_peer(&mut self, peer: &Peer) {
        let Some(server) = peer.start(&self.task()) else { return };
        let server = self.add(server);
        let name = peer.name;
        self.measure(name, server);
        if name != "nginx auth_request" {
            self.measure_with(&format!("{name}, chunked"), server, self.requests.chunked.clone());
            self.measure_with(&format!("{name}, forged keys"), server, self.requests.forged.clone()).refused = true;
        }
        if name == "HAProxy" {
            self.measure(&format!("{name}, 5,000/s"), server).traffic = Traffic::FixedRate;
        }
    }

    /// Gateways with TLS 1.3, and the same certificate.
    fn add_with_tls(&mut self) {
        let listener = self.certificate.keygate_listener();
        let node = self.start_keygate("keygate-tls", &["ample"], |node| node.listener = listener);
        let server = self.add(node.server);
        self.measure("Keygate, TLS", server).traffic = Traffic::Tls;
        for name in ["HAProxy", "nginx map"] {
            let task = Task { variant: "-tls", certificate: Some(&self.certificate), ..self.task() };
            let Some(server) = peers::named(name).start(&task) else { continue };
            let server = self.add(server);
            self.measure(&format!("{name}, TLS"), server).traffic = Traffic::Tls;
        }
    }

    /// Gateways with two workers. They and the load run on all cores.
    fn add_with_two_workers(&mut self) {
        let node = self.start_keygate("keygate-two", &["ample"], |node| node.workers = 2);
        let server = self.add(node.server);
        self.measure("Keygate, two workers", server).cores = Cores::All;
        for name in ["HAProxy", "nginx map"] {
            let task = Task { variant: "-two", workers: 2, ..self.task() };
            let Some(server) = peers::named(name).start(&task) else { continue };
            let server = self.add(server);
            self.measure(&format!("{name}, two workers"), server).cores = Cores::All;
        }
    }

    /// Proxies that ask Keygate, each with a Keygate of its own, so that CPU time is known for each.
    fn add_authorized_peers(&mut self) {
        for peer in &AUTHORIZED_PEERS {
            let name = format!("authorizer of {}", peer.name);
            let folder = self.node_folder(&name);
            let node = Node::new(&name, &folder, keygate::gateway(self.upstream, &["ample"]));
            let node = node.start_authorizer(self.settings);
            let authorizer = Some(node.server.address.as_str());
            let task = Task { authorizer, ..Task::new(self.folder, self.upstream) };
            let Some(server) = peer.start(&task) else { continue };
            let server = self.add(server.with_authorizer(node.server));
            self.measure(peer.name, server);
        }
    }
}

/// A file with requests to a path that present one credential each.
fn write(folder: &Path, name: &str, path: &str, credentials: &[String]) -> PathBuf {
    let file = folder.join(format!("{name}.requests"));
    write_requests(&file, credentials.iter().map(|credential| (path, credential.as_str())));
    file
}
