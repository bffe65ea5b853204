//! Other gateways, where they are installed: each with the configuration that does the nearest equivalent, in `peers/`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::machine::{Cores, is_installed};
use crate::server::Server;
use crate::tls::Certificate;
use keygate_test_servers::free_port;

/// What every peer is given.
pub(crate) struct Task<'a> {
    /// Where files go; each peer has a folder of its own in it.
    pub(crate) folder: &'a Path,
    /// `ip:port` of the upstream.
    pub(crate) upstream: &'a str,
    /// What callers present.
    pub(crate) keys: &'a [String],
    /// `ip:port` of the external authorization of a Keygate, for those that ask it.
    pub(crate) authorizer: Option<&'a str>,
    /// What it does not have in common with the peer of the same name, for the name of its folder.
    pub(crate) variant: &'static str,
    /// The certificate of its listener; `None` for clear text.
    pub(crate) certificate: Option<&'a Certificate>,
    pub(crate) workers: usize,
    /// The connections that it is to hold, as far as it has to be told.
    pub(crate) connections: usize,
}

/// Connections that a peer may have, unless many are opened.
const CONNECTIONS: usize = 1_024;

/// A gateway that Keygate is compared with.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    program: &'static str,
    /// Its configuration's file name, and text with places to fill.
    file: &'static str,
    template: &'static str,
    /// How the program is told its configuration and all else.
    arguments: fn(&Path) -> Vec<String>,
    /// The line of its list of keys: what is presented, and by whom.
    entry: fn(&str, &str) -> String,
    /// What follows the address of its listener for TLS 1.3.
    tls: fn(&Certificate) -> String,
}

/// The peers, in the order of the table.
pub(crate) static PEERS: [Peer; 4] = [
    Peer {
        name: "nginx map",
        program: "nginx",
        file: "nginx.conf",
        template: include_str!("peers/nginx-map.conf"),
        arguments: nginx_arguments,
        entry: nginx_entry,
        tls: nginx_tls,
    },
    Peer {
        name: "nginx auth_request",
        program: "nginx",
        file: "nginx.conf",
        template: include_str!("peers/nginx-auth-request.conf"),
        arguments: nginx_arguments,
        entry: nginx_entry,
        tls: nginx_tls,
    },
    Peer {
        name: "HAProxy",
        program: "haproxy",
        file: "haproxy.cfg",
        template: include_str!("peers/haproxy.cfg"),
        arguments: |file| vec!["-db".to_owned(), "-f".to_owned(), text(file)],
        entry: |key, caller| format!("{key} {caller}\n"),
        tls: |certificate| format!(" ssl crt {} ssl-min-ver TLSv1.3", text(&certificate.both)),
    },
    Peer {
        name: "Envoy",
        program: "envoy",
        file: "envoy.yaml",
        template: include_str!("peers/envoy.yaml"),
        arguments: envoy_arguments,
        entry: envoy_entry,
        tls: envoy_tls,
    },
];

/// Peers that ask Keygate about each request, configured as in docs/external-auth.md. They have no keys.
pub(crate) static AUTHORIZED_PEERS: [Peer; 3] = [
    Peer {
        name: "nginx, Keygate auth_request",
        program: "nginx",
        file: "nginx.conf",
        template: include_str!("peers/nginx-keygate.conf"),
        arguments: nginx_arguments,
        entry: nginx_entry,
        tls: nginx_tls,
    },
    Peer {
        name: "Envoy, Keygate ext_authz HTTP",
        program: "envoy",
        file: "envoy.yaml",
        template: include_str!("peers/envoy-keygate-http.yaml"),
        arguments: envoy_arguments,
        entry: envoy_entry,
        tls: envoy_tls,
    },
    Peer {
        name: "Envoy, Keygate ext_authz gRPC",
        program: "envoy",
        file: "envoy.yaml",
        template: include_str!("peers/envoy-keygate-grpc.yaml"),
        arguments: envoy_arguments,
        entry: envoy_entry,
        tls: envoy_tls,
    },
];

impl<'a> Task<'a> {
    /// For one worker, in clear text.
    pub(crate) fn new(folder: &'a Path, upstream: &'a str) -> Self {
        Self {
            folder,
            upstream,
            keys: &[],
            authorizer: None,
            variant: "",
            certificate: None,
            workers: 1,
            connections: CONNECTIONS,
        }
    }
}

/// A peer of [`PEERS`] by its name.
pub(crate) fn named(name: &str) -> &'static Peer {
    PEERS.iter().find(|peer| peer.name == name).unwrap()
}

impl Peer {
    /// Starts it, with one worker on the proxies' core; `None` where it is not installed, or does not start.
    pub(crate) fn start(&self, task: &Task<'_>) -> Option<Server> {
        if !is_installed(self.program) {
            println!("{}: {} is not installed, it is left out", self.name, self.program);
            return None;
        }
        let folder = task.folder.join(self.name.replace(' ', "-") + task.variant);
        std::fs::create_dir(&folder).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let file = self.configure(&folder, &address, task);
        let mut command = Cores::of_proxy(task.workers).command(Path::new(self.program));
        command.args((self.arguments)(&file)).stdout(Stdio::null());
        Server::start(self.name, command, address)
    }

    /// Writes its configuration; the file.
    fn configure(&self, folder: &Path, address: &str, task: &Task<'_>) -> PathBuf {
        let mut keys = String::new();
        for (number, key) in task.keys.iter().enumerate() {
            write!(keys, "{}", (self.entry)(key, &format!("caller-{number}"))).unwrap();
        }
        let keys_file = folder.join("keys");
        std::fs::write(&keys_file, &keys).unwrap();
        let (host, port) = address.split_once(':').unwrap();
        let (upstream_host, upstream_port) = task.upstream.split_once(':').unwrap();
        let authorizer = task.authorizer.unwrap_or_default();
        let (authorizer_host, authorizer_port) = authorizer.split_once(':').unwrap_or_default();
        let places = [
            ("folder", text(folder)),
            ("address", address.to_owned()),
            ("host", host.to_owned()),
            ("port", port.to_owned()),
            ("upstream", task.upstream.to_owned()),
            ("upstream_host", upstream_host.to_owned()),
            ("upstream_port", upstream_port.to_owned()),
            ("authorizer", authorizer.to_owned()),
            ("authorizer_host", authorizer_host.to_owned()),
            ("authorizer_port", authorizer_port.to_owned()),
            ("keys", text(&keys_file)),
            ("credentials", keys.trim_end().to_owned()),
            ("tls", task.certificate.map(self.tls).unwrap_or_default()),
            ("workers", task.workers.to_string()),
            ("connections", task.connections.to_string()),
        ];
        let filled = places.iter().fold(self.template.to_owned(), |config, (place, value)| {
            config.replace(&format!("{{{{{place}}}}}"), value)
        });
        let file = folder.join(self.file);
        std::fs::write(&file, filled).unwrap();
        file
    }
}

fn nginx_arguments(file: &Path) -> Vec<String> {
    // The compiled-in log is not ours to write to.
    ["-e", "stderr", "-p", &text(file.parent().unwrap()), "-c", &text(file)].map(ToOwned::to_owned).to_vec()
}

fn nginx_tls(certificate: &Certificate) -> String {
    let [certificate, key] = [&certificate.file, &certificate.key].map(|file| text(file));
    format!(" ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3")
}

fn envoy_tls(_: &Certificate) -> String {
    unreachable!("Envoy is measured in clear text")
}

fn nginx_entry(key: &str, caller: &str) -> String {
    format!("\"Bearer {key}\" {caller};\n")
}

fn envoy_arguments(file: &Path) -> Vec<String> {
    ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "--config-path", &text(file)]
        .map(ToOwned::to_owned)
        .to_vec()
}

fn envoy_entry(key: &str, caller: &str) -> String {
    format!("                        - {{ key: \"{key}\", client: {caller} }}\n")
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
