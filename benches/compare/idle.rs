//! The memory of connections that are open and silent, of Keygate and nginx: what a server grows by, divided by their number.

use std::time::{Duration, Instant};

use ::keygate::listener::Descriptors;
use serde_json::json;
use tempfile::TempDir;

use crate::keygate::{self, Node};
use crate::keys::fill;
use crate::peers::{self, Task};
use crate::server::Server;
use crate::settings::Settings;
use crate::support::client_stream::ClientStream;
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::merge;
use crate::table::{Row, Target};
use crate::tls::Certificate;

/// Rounds at the most: memory varies little.
const ROUNDS: usize = 3;
/// Connections that are opened before the measurement, so that memory which is allocated once is not counted.
const WARM: usize = 200;
/// Connections then, if the limit of open files permits them.
const SILENT: usize = 2_000;
/// How long memory must stay the same, and how long that may take.
const STEADY: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections of one kind.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    tls: bool,
    /// Whether each has made a request.
    request: bool,
    /// Of Keygate's, in KiB.
    kilobytes: Target,
    /// Of Keygate's ÷ nginx's.
    ratio: Target,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "a TLS 1.3 connection after a request",
        tls: true,
        request: true,
        kilobytes: Target::NONE,
        ratio: Target { wanted: Some(1.00), stretch: None },
    },
    Kind {
        name: "a silent connection",
        tls: false,
        request: false,
        kilobytes: Target { wanted: Some(8.0), stretch: Some(2.0) },
        ratio: Target::NONE,
    },
    Kind {
        name: "a connection after a request",
        tls: false,
        request: true,
        kilobytes: Target::NONE,
        ratio: Target::NONE,
    },
];

/// What all measurements share: the settings, the upstream, the certificate and the number of connections.
struct Opening<'a> {
    settings: &'a Settings,
    upstream: &'a str,
    certificate: Certificate,
    count: usize,
}

/// Measures all kinds, each with a fresh server.
pub(crate) fn measure(settings: &Settings, upstream: &str) -> Vec<Row> {
    let count = SILENT.min((Descriptors::raise().limit() - 1_000) / 2);
    let opening = Opening { settings, upstream, certificate: Certificate::new(), count };
    let mut rows = Vec::new();
    for kind in KINDS {
        let (mut ours, mut nginx) = (Vec::new(), Vec::new());
        for round in 1..=settings.rounds.min(ROUNDS) {
            eprintln!("memory of {}, round {round}", kind.name);
            ours.push(opening.keygate(kind));
            nginx.extend(opening.nginx(kind));
        }
        let ratios: Vec<f64> = ours.iter().zip(&nginx).map(|(ours, nginx)| ours / nginx).collect();
        rows.extend(kind.rows(ours, nginx, ratios));
    }
    rows
}

impl Kind {
    fn rows(self, ours: Vec<f64>, nginx: Vec<f64>, ratios: Vec<f64>) -> impl Iterator<Item = Row> {
        let row = |whose: &str, values: Vec<f64>, unit: &'static str, target| {
            let missing =
                if unit.is_empty() { "its table of connections, allocated at the start, does not count" } else { "" };
            Row { what: format!("memory of {}{whose}", self.name), values, unit, target, missing }
        };
        [
            row(" ÷ nginx", ratios, "", self.ratio),
            row("", ours, " KiB", self.kilobytes),
            row(", nginx", nginx, " KiB", Target::NONE),
        ]
        .into_iter()
        .filter(|row| !row.values.is_empty())
    }
}

impl Opening<'_> {
    /// KiB of a connection of Keygate.
    fn keygate(&self, kind: Kind) -> f64 {
        let folder = TempDir::new().unwrap();
        let keys = fill(&keygate::database(folder.path()), 1, &[]);
        let mut gateway = keygate::gateway(self.upstream, &["ample"]);
        gateway["connections"] = json!({"max_per_client": 1_000_000});
        let mut node = Node::new("keygate-idle", folder.path(), gateway);
        // Longer than the measurement takes.
        node.listener = json!({"limits": {"head_timeout": "10m", "idle_timeout": "10m"}});
        if kind.tls {
            merge(&mut node.listener, &self.certificate.keygate_listener());
        }
        let node = node.start(self.settings);
        self.grown_by(kind, &node.server, &keys[0])
    }

    /// KiB of a connection of nginx with its defaults, so without a cache of sessions; `None` if it is not installed.
    fn nginx(&self, kind: Kind) -> Option<f64> {
        let folder = TempDir::new().unwrap();
        let keys = fill(&keygate::database(folder.path()), 1, &[]);
        let task = Task {
            keys: &keys,
            certificate: kind.tls.then_some(&self.certificate),
            // Above 15/16 of them, nginx closes those that wait.
            connections: self.count * 2,
            ..Task::new(folder.path(), self.upstream)
        };
        let server = peers::named("nginx map").start(&task)?;
        Some(self.grown_by(kind, &server, &keys[0]))
    }

    #[expect(clippy::cast_precision_loss, reason = "far from the edge")]
    fn grown_by(&self, kind: Kind, server: &Server, key: &str) -> f64 {
        // What a server has open while it starts is not counted.
        steady_memory(server, 0);
        let mut connections = Vec::new();
        let mut memory_with = |count: usize| {
            let files = server.open_files() + count - connections.len();
            while connections.len() < count {
                connections.push(self.connect(kind, server, key));
            }
            steady_memory(server, files)
        };
        let before = memory_with(WARM);
        let grown = memory_with(self.count).saturating_sub(before);
        grown as f64 / 1024.0 / (self.count - WARM) as f64
    }

    fn connect(&self, kind: Kind, server: &Server, key: &str) -> KeptConnection {
        let port = server.address.rsplit(':').next().unwrap().parse().unwrap();
        let stream = if kind.tls { self.certificate.connect(port) } else { ClientStream::tcp(port) };
        let mut connection = KeptConnection::on(stream);
        if kind.request {
            let answer = connection.get("/", &format!("Authorization: Bearer {key}\r\n"));
            assert_eq!(answer.status, 200, "{}", answer.head);
        }
        connection
    }
}

/// Waits until a server has at least `files` open files and constant memory; returns the memory.
fn steady_memory(server: &Server, files: usize) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let (mut memory, mut since) = (0, Instant::now());
    loop {
        let now = server.proportional();
        if now != memory || server.open_files() < files {
            (memory, since) = (now, Instant::now());
        } else if since.elapsed() >= STEADY {
            return memory;
        }
        if Instant::now() > deadline {
            assert!(server.open_files() >= files, "{files} files were to be open");
            eprintln!("memory did not become steady within {PATIENCE:?}");
            return now;
        }
        std::thread::sleep(STEADY / 10);
    }
}
