//! Measures the memory per idle connection of Keygate and nginx: the growth of a server's PSS divided by the number of added connections.

use std::time::{Duration, Instant};

use ::keygate::listener::Descriptors;
use serde_json::json;
use tempfile::TempDir;

use crate::keygate::{self, NodeConfig};
use crate::keys::insert_keys;
use crate::peers::{self, PeerConfig};
use crate::server::Server;
use crate::settings::Settings;
use crate::support::client_stream::ClientStream;
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::merge;
use crate::table::{Row, Target};
use crate::tls::Certificate;

/// The maximum number of rounds. Memory varies little between rounds.
const MAX_ROUNDS: usize = 3;
/// Connections that are opened before the measurement, so that one-time allocations are not counted.
const WARM_UP_CONNECTIONS: usize = 200;
/// Connections at the end of the measurement, including those of the warm-up. A low limit on open files reduces this number.
const CONNECTIONS: usize = 2_000;
/// Memory is stable if it has not changed for this long.
const STABLE_FOR: Duration = Duration::from_millis(300);
/// How long to wait for stable memory.
const STABLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A kind of connection, with its targets.
#[derive(Clone, Copy)]
struct ConnectionKind {
    name: &'static str,
    tls: bool,
    /// Whether a request is sent on each connection.
    request: bool,
    /// For Keygate, in KiB.
    kib: Target,
    /// For Keygate ÷ nginx.
    ratio: Target,
}

const KINDS: [ConnectionKind; 3] = [
    ConnectionKind {
        name: "a TLS 1.3 connection after a request",
        tls: true,
        request: true,
        kib: Target::NONE,
        ratio: Target { wanted: Some(1.00), stretch: None },
    },
    ConnectionKind {
        name: "a silent connection",
        tls: false,
        request: false,
        kib: Target { wanted: Some(8.0), stretch: Some(2.0) },
        ratio: Target::NONE,
    },
    ConnectionKind {
        name: "a connection after a request",
        tls: false,
        request: true,
        kib: Target::NONE,
        ratio: Target::NONE,
    },
];

/// The parameters of all measurements.
struct IdleBench<'a> {
    settings: &'a Settings,
    /// `ip:port`
    upstream: &'a str,
    certificate: Certificate,
    /// The number of connections at the end of a measurement.
    connections: usize,
}

/// Measures all kinds of connections, each with a new server. Returns the rows of the table.
pub(crate) fn measure(settings: &Settings, upstream: &str) -> Vec<Row> {
    let connections = CONNECTIONS.min((Descriptors::raise().limit() - 1_000) / 2);
    let bench = IdleBench { settings, upstream, certificate: Certificate::new(), connections };
    let mut rows = Vec::new();
    for kind in KINDS {
        let (mut keygate, mut nginx) = (Vec::new(), Vec::new());
        for round in 1..=settings.rounds.min(MAX_ROUNDS) {
            eprintln!("memory of {}, round {round}", kind.name);
            keygate.push(bench.keygate_kib(kind));
            nginx.extend(bench.nginx_kib(kind));
        }
        let ratios: Vec<f64> = keygate.iter().zip(&nginx).map(|(keygate, nginx)| keygate / nginx).collect();
        rows.extend(kind.rows(keygate, nginx, ratios));
    }
    rows
}

impl ConnectionKind {
    fn rows(self, keygate: Vec<f64>, nginx: Vec<f64>, ratios: Vec<f64>) -> impl Iterator<Item = Row> {
        let row = |suffix: &str, values: Vec<f64>, unit: &'static str, target| {
            let missing =
                if unit.is_empty() { "its table of connections, allocated at the start, does not count" } else { "" };
            Row { what: format!("memory of {}{suffix}", self.name), values, unit, target, missing }
        };
        [
            row(" ÷ nginx", ratios, "", self.ratio),
            row("", keygate, " KiB", self.kib),
            row(", nginx", nginx, " KiB", Target::NONE),
        ]
        .into_iter()
        .filter(|row| !row.values.is_empty())
    }
}

impl IdleBench<'_> {
    /// Memory per connection of a new Keygate, in KiB.
    fn keygate_kib(&self, kind: ConnectionKind) -> f64 {
        let folder = TempDir::new().unwrap();
        let keys = insert_keys(&keygate::database(folder.path()), 1, &[]);
        let mut gateway = keygate::gateway(self.upstream, &["ample"]);
        gateway["connections"] = json!({"max_per_client": 1_000_000});
        let mut node = NodeConfig::new("keygate-idle", folder.path(), gateway);
        // The timeouts are longer than the measurement, so that Keygate closes no connection.
        node.listener = json!({"limits": {"head_timeout": "10m", "idle_timeout": "10m"}});
        if kind.tls {
            merge(&mut node.listener, &self.certificate.keygate_listener());
        }
        let node = node.start(self.settings);
        self.memory_per_connection(kind, &node.server, &keys[0])
    }

    /// Memory per connection of a new nginx, in KiB. nginx has its default TLS settings, so it has no session cache. `None` if nginx is
    /// not installed or does not start.
    fn nginx_kib(&self, kind: ConnectionKind) -> Option<f64> {
        let folder = TempDir::new().unwrap();
        let keys = insert_keys(&keygate::database(folder.path()), 1, &[]);
        let config = PeerConfig {
            keys: &keys,
            certificate: kind.tls.then_some(&self.certificate),
            // nginx closes idle connections when more than 15/16 of `worker_connections` are in use.
            connections: self.connections * 2,
            ..PeerConfig::new(folder.path(), self.upstream)
        };
        let server = peers::by_name("nginx map").start(&config)?;
        Some(self.memory_per_connection(kind, &server, &keys[0]))
    }

    /// Memory per connection of a server, in KiB.
    #[expect(clippy::cast_precision_loss, reason = "the values are far below 2^52")]
    fn memory_per_connection(&self, kind: ConnectionKind, server: &Server, key: &str) -> f64 {
        // Files that are open only during start-up must be closed before open files are counted.
        stable_memory(server, 0);
        let mut connections = Vec::new();
        let mut memory_with = |count: usize| {
            let files = server.open_files() + count - connections.len();
            while connections.len() < count {
                connections.push(self.connect(kind, server, key));
            }
            stable_memory(server, files)
        };
        let before = memory_with(WARM_UP_CONNECTIONS);
        let grown = memory_with(self.connections).saturating_sub(before);
        grown as f64 / 1024.0 / (self.connections - WARM_UP_CONNECTIONS) as f64
    }

    /// Opens a connection and sends a request on it if `kind` requires one.
    fn connect(&self, kind: ConnectionKind, server: &Server, key: &str) -> KeptConnection {
        let port = server.address.rsplit(':').next().unwrap().parse().unwrap();
        let stream = if kind.tls { self.certificate.connect(port) } else { ClientStream::tcp(port) };
        let mut connection = KeptConnection::on(stream);
        if kind.request {
            let response = connection.get("/", &format!("Authorization: Bearer {key}\r\n"));
            assert_eq!(response.status, 200, "{}", response.head);
        }
        connection
    }
}

/// Waits until a server has at least `files` open files and its PSS is stable. Returns the PSS in bytes. After [`STABLE_TIMEOUT`], prints a
/// warning and returns the current PSS, or panics if fewer files are open.
fn stable_memory(server: &Server, files: usize) -> u64 {
    let deadline = Instant::now() + STABLE_TIMEOUT;
    let (mut memory, mut since) = (0, Instant::now());
    loop {
        let now = server.pss();
        if now != memory || server.open_files() < files {
            (memory, since) = (now, Instant::now());
        } else if since.elapsed() >= STABLE_FOR {
            return memory;
        }
        if Instant::now() > deadline {
            assert!(server.open_files() >= files, "{} files are open, expected at least {files}", server.open_files());
            eprintln!("memory is not stable after {STABLE_TIMEOUT:?}");
            return now;
        }
        std::thread::sleep(STABLE_FOR / 10);
    }
}
