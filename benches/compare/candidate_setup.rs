//! Starts the servers of the comparison and defines its candidates.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::keygate::{self, ISSUER, Keygate, NodeConfig};
use crate::keys::{forge, insert_keys};
use crate::load::{Generator, Traffic, write_requests};
use crate::machine::Cores;
use crate::peers::{self, AUTHORIZED_PEERS, PEERS, Peer, PeerConfig};
use crate::rounds::{Bench, Candidate};
use crate::server::Server;
use crate::settings::Settings;
use crate::tls::Certificate;
use crate::upstream::CHUNKED_PATH;
use keygate_test_servers::free_port;

/// Keys that every gateway accepts. The load presents them in rotation.
pub(crate) const KEYS: usize = 10_000;
/// Derived tokens of each kind.
const TOKENS: usize = 1_000;

/// A bench under construction.
struct CandidateSetup<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    upstream: &'a str,
    keys: Vec<String>,
    certificate: Certificate,
    requests: RequestFiles,
    bench: Bench,
}

/// Files with the requests that the load generator sends.
struct RequestFiles {
    keys: PathBuf,
    one_key: PathBuf,
    chunked: PathBuf,
    forged: PathBuf,
}

/// Starts all servers and adds all candidates. Programs that are not installed are skipped.
pub(crate) fn start_candidates(settings: &Settings, folder: &Path, upstream: &str) -> Bench {
    let keys = insert_keys(&keygate::database(folder), KEYS, &[]);
    let requests = RequestFiles {
        keys: write_request_file(folder, "keys", "/", &keys),
        one_key: write_request_file(folder, "one", "/", &keys[..1]),
        chunked: write_request_file(folder, "chunked", CHUNKED_PATH, &keys),
        forged: write_request_file(folder, "forged", "/", &forge(&keys)),
    };
    let bench = Bench { servers: Vec::new(), candidates: Vec::new(), load: Generator::new(folder) };
    let mut setup =
        CandidateSetup { settings, folder, upstream, keys, certificate: Certificate::new(), requests, bench };
    setup.add_bare_pingora();
    setup.add_keygate();
    setup.add_keygate_with_limit();
    for peer in &PEERS {
        setup.add_peer(peer);
    }
    setup.add_with_tls();
    setup.add_with_two_workers();
    setup.add_authorized_peers();
    setup.bench
}

impl CandidateSetup<'_> {
    /// Adds a server and returns its index in [`Bench::servers`].
    fn add_server(&mut self, server: Server) -> usize {
        self.bench.servers.push(server);
        self.bench.servers.len() - 1
    }

    /// Adds a candidate that presents all keys in rotation.
    fn add_candidate(&mut self, name: &str, server: usize) -> &mut Candidate {
        let requests = self.requests.keys.clone();
        self.add_candidate_with(name, server, requests)
    }

    /// Adds a candidate with a file of requests.
    fn add_candidate_with(&mut self, name: &str, server: usize, requests: PathBuf) -> &mut Candidate {
        self.bench.candidates.push(Candidate::new(name, server, requests));
        self.bench.candidates.last_mut().unwrap()
    }

    fn add_bare_pingora(&mut self) {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Cores::Proxy.command(&self.settings.bare);
        command.args([&address, self.upstream]);
        let server =
            self.add_server(Server::start("bare-proxy", command, address).expect("the bare proxy should start"));
        self.add_candidate("bare pingora", server);
        self.add_http2_candidate("bare pingora, HTTP/2", server);
    }

    /// Adds a candidate with HTTP/2 in clear text if `h2load` is installed.
    fn add_http2_candidate(&mut self, name: &str, server: usize) {
        if Traffic::Http2.is_available() {
            self.add_candidate(name, server).traffic = Traffic::Http2;
        } else {
            println!("{name}: skipped, h2load is not installed");
        }
    }

    /// Creates the folder of a Keygate node, with a copy of the database.
    fn create_node_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(keygate::database(self.folder), keygate::database(&folder)).unwrap();
        folder
    }

    /// Starts a Keygate with the keys. The default is one worker and a listener in clear text; `configure` may change the configuration.
    fn start_keygate(&self, name: &str, limits: &[&str], configure: impl FnOnce(&mut NodeConfig<'_>)) -> Keygate {
        let folder = self.create_node_folder(name);
        let mut config = NodeConfig::new(name, &folder, keygate::gateway(self.upstream, limits));
        configure(&mut config);
        config.start(self.settings)
    }

    /// Adds Keygate without a limit.
    fn add_keygate(&mut self) {
        let plain = self.start_keygate("keygate", &[], |_| {});
        let logged = self.start_keygate("keygate-logged", &[], |config| {
            config.gateway["access_log"] = json!({"enabled": true});
        });
        let [plain, logged] = [plain, logged].map(|node| self.add_server(node.server));
        self.add_candidate("Keygate, keys", plain);
        self.add_candidate("Keygate, keys + log", logged);
    }

    /// Adds Keygate with a limit. The other gateways have a limit, too.
    fn add_keygate_with_limit(&mut self) {
        let all_fields = self.start_keygate("keygate-every-field", &["ample"], |config| {
            config.gateway.as_object_mut().unwrap().remove("request_headers");
        });
        let signing = keygate::generate_signing_key(self.settings, self.folder);
        let tokens = json!({"jwt": {"signing_keys": {"urls": [format!("file://{}", signing.display())]}}});
        let sections: Value = json!({"credentials": {"issuer": ISSUER, "derived_tokens": tokens}});
        let limited = self.start_keygate("keygate-limited", &["ample"], |config| config.sections = sections);
        let [jwts, macaroons] =
            [("jwt", "TOKEN_ALGORITHM_JWT"), ("macaroon", "TOKEN_ALGORITHM_MACAROON")].map(|(name, algorithm)| {
                write_request_file(self.folder, name, "/", &limited.derive(&self.keys[..TOKENS], algorithm))
            });

        let [limited, all_fields] = [limited, all_fields].map(|node| self.add_server(node.server));
        self.add_candidate("Keygate, keys + limit", limited);
        self.add_candidate("Keygate, keys + limit + all fields", all_fields);
        self.add_candidate_with("Keygate, one key", limited, self.requests.one_key.clone());
        self.add_candidate_with("Keygate, JWT", limited, jwts);
        self.add_candidate_with("Keygate, macaroon", limited, macaroons);
        self.add_candidate_with("Keygate, chunked", limited, self.requests.chunked.clone());
        self.add_candidate_with("Keygate, forged keys", limited, self.requests.forged.clone()).expect_rejection = true;
        self.add_candidate("Keygate, 5,000/s", limited).traffic = Traffic::FixedRate;
        self.add_http2_candidate("Keygate, HTTP/2", limited);
    }

    /// The configuration of another gateway: one worker, a listener in clear text, and the keys.
    fn peer_config(&self) -> PeerConfig<'_> {
        PeerConfig { keys: &self.keys, ..PeerConfig::new(self.folder, self.upstream) }
    }

    fn add_peer(&mut self, peer: &Peer) {
        let Some(server) = peer.start(&self.peer_config()) else { return };
        let server = self.add_server(server);
        let name = peer.name;
        self.add_candidate(name, server);
        if name != "nginx auth_request" {
            self.add_candidate_with(&format!("{name}, chunked"), server, self.requests.chunked.clone());
            self.add_candidate_with(&format!("{name}, forged keys"), server, self.requests.forged.clone())
                .expect_rejection = true;
        }
        if name == "HAProxy" {
            self.add_candidate(&format!("{name}, 5,000/s"), server).traffic = Traffic::FixedRate;
        }
    }

    /// Adds gateways with TLS 1.3. All have the same certificate.
    fn add_with_tls(&mut self) {
        let listener = self.certificate.keygate_listener();
        let node = self.start_keygate("keygate-tls", &["ample"], |config| config.listener = listener);
        let server = self.add_server(node.server);
        self.add_candidate("Keygate, TLS", server).traffic = Traffic::Tls;
        for name in ["HAProxy", "nginx map"] {
            let config = PeerConfig { variant: "-tls", certificate: Some(&self.certificate), ..self.peer_config() };
            let Some(server) = peers::by_name(name).start(&config) else { continue };
            let server = self.add_server(server);
            self.add_candidate(&format!("{name}, TLS"), server).traffic = Traffic::Tls;
        }
    }

    /// Adds gateways with two workers. The gateways and the load generator run on all cores.
    fn add_with_two_workers(&mut self) {
        let node = self.start_keygate("keygate-two", &["ample"], |config| config.workers = 2);
        let server = self.add_server(node.server);
        self.add_candidate("Keygate, two workers", server).cores = Cores::All;
        for name in ["HAProxy", "nginx map"] {
            let config = PeerConfig { variant: "-two", workers: 2, ..self.peer_config() };
            let Some(server) = peers::by_name(name).start(&config) else { continue };
            let server = self.add_server(server);
            self.add_candidate(&format!("{name}, two workers"), server).cores = Cores::All;
        }
    }

    /// Adds proxies that send checks to Keygate. Each has its own Keygate process, so that the CPU time of its checks is known.
    fn add_authorized_peers(&mut self) {
        for peer in &AUTHORIZED_PEERS {
            let name = format!("authorizer of {}", peer.name);
            let folder = self.create_node_folder(&name);
            let node = NodeConfig::new(&name, &folder, keygate::gateway(self.upstream, &["ample"]));
            let node = node.start_authorizer(self.settings);
            let authorizer = Some(node.server.address.as_str());
            let config = PeerConfig { authorizer, ..PeerConfig::new(self.folder, self.upstream) };
            let Some(server) = peer.start(&config) else { continue };
            let server = self.add_server(server.with_authorizer(node.server));
            self.add_candidate(peer.name, server);
        }
    }
}

/// Writes a file with one request per credential, all to the same path. Returns the path of the file.
fn write_request_file(folder: &Path, name: &str, path: &str, credentials: &[String]) -> PathBuf {
    let file = folder.join(format!("{name}.requests"));
    write_requests(&file, credentials.iter().map(|credential| (path, credential.as_str())));
    file
}
