//! Other gateways. Each is started with the nearest equivalent configuration, from a template in `peers/`, if it is installed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::machine::{Cores, is_installed};
use crate::server::Server;
use crate::tls::Certificate;
use keygate_test_servers::free_port;

/// The parameters of a peer's configuration.
pub(crate) struct PeerConfig<'a> {
    /// The folder in which each peer creates a folder for its files.
    pub(crate) folder: &'a Path,
    /// `ip:port` of the upstream.
    pub(crate) upstream: &'a str,
    /// The keys that the peer accepts.
    pub(crate) keys: &'a [String],
    /// `ip:port` of Keygate's external authorization, for peers in [`AUTHORIZED_PEERS`].
    pub(crate) authorizer: Option<&'a str>,
    /// A suffix for the name of the peer's folder, to distinguish several configurations of the same peer.
    pub(crate) variant: &'static str,
    /// The certificate of its listener; `None` for clear text.
    pub(crate) certificate: Option<&'a Certificate>,
    pub(crate) workers: usize,
    /// The limit on connections, for peers whose template has the placeholder `connections`.
    pub(crate) connections: usize,
}

/// The default of [`PeerConfig::connections`].
const DEFAULT_CONNECTIONS: usize = 1_024;

/// A gateway that Keygate is compared with.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// The executable, on the `PATH`.
    program: &'static str,
    /// The name of the configuration file.
    file: &'static str,
    /// The text of the configuration file, with placeholders in double braces.
    template: &'static str,
    /// The command-line arguments, given the path of the configuration file.
    arguments: fn(&Path) -> Vec<String>,
    /// An entry of the list of keys, given a key and the name of its caller.
    key_entry: fn(&str, &str) -> String,
    /// The options after the listener's address that enable TLS 1.3.
    tls_options: fn(&Certificate) -> String,
}

/// The peers, in the order of the table.
pub(crate) static PEERS: [Peer; 4] = [
    Peer {
        name: "nginx map",
        program: "nginx",
        file: "nginx.conf",
        template: include_str!("peers/nginx-map.conf"),
        arguments: nginx_arguments,
        key_entry: nginx_key_entry,
        tls_options: nginx_tls_options,
    },
    Peer {
        name: "nginx auth_request",
        program: "nginx",
        file: "nginx.conf",
        template: include_str!("peers/nginx-auth-request.conf"),
        arguments: nginx_arguments,
        key_entry: nginx_key_entry,
        tls_options: nginx_tls_options,
    },
    Peer {
        name: "HAProxy",
        program: "haproxy",
        file: "haproxy.cfg",
        template: include_str!("peers/haproxy.cfg"),
        arguments: |file| vec!["-db".to_owned(), "-f".to_owned(), path_string(file)],
        key_entry: |key, caller| format!("{key} {caller}\n"),
        tls_options: |certificate| format!(" ssl crt {} ssl-min-ver TLSv1.3", path_string(&certificate.combined_file)),
    },
    Peer {
        name: "Envoy",
        program: "envoy",
        file: "envoy.yaml",
        template: include_str!("peers/envoy.yaml"),
        arguments: envoy_arguments,
        key_entry: envoy_key_entry,
        tls_options: envoy_tls_options,
    },
];

/// Peers that send Keygate a check for each request, configured as in docs/external-auth.md. They have no list of keys.
pub(crate) static AUTHORIZED_PEERS: [Peer; 3] = [
    Peer {
        name: "nginx, Keygate auth_request",
        program: "nginx",
        file: "nginx.conf",
        template: include_str!("peers/nginx-keygate.conf"),
        arguments: nginx_arguments,
        key_entry: nginx_key_entry,
        tls_options: nginx_tls_options,
    },
    Peer {
        name: "Envoy, Keygate ext_authz HTTP",
        program: "envoy",
        file: "envoy.yaml",
        template: include_str!("peers/envoy-keygate-http.yaml"),
        arguments: envoy_arguments,
        key_entry: envoy_key_entry,
        tls_options: envoy_tls_options,
    },
    Peer {
        name: "Envoy, Keygate ext_authz gRPC",
        program: "envoy",
        file: "envoy.yaml",
        template: include_str!("peers/envoy-keygate-grpc.yaml"),
        arguments: envoy_arguments,
        key_entry: envoy_key_entry,
        tls_options: envoy_tls_options,
    },
];

impl<'a> PeerConfig<'a> {
    /// A configuration with one worker, a listener in clear text, and no keys.
    pub(crate) fn new(folder: &'a Path, upstream: &'a str) -> Self {
        Self {
            folder,
            upstream,
            keys: &[],
            authorizer: None,
            variant: "",
            certificate: None,
            workers: 1,
            connections: DEFAULT_CONNECTIONS,
        }
    }
}

/// The peer of [`PEERS`] with this name. Panics if there is none.
pub(crate) fn by_name(name: &str) -> &'static Peer {
    PEERS.iter().find(|peer| peer.name == name).unwrap()
}

impl Peer {
    /// Starts the peer: on the proxy core with one worker, otherwise on all cores. If it is not installed, or exits during start-up, prints
    /// that and returns `None`.
    pub(crate) fn start(&self, config: &PeerConfig<'_>) -> Option<Server> {
        if !is_installed(self.program) {
            println!("{}: skipped, {} is not installed", self.name, self.program);
            return None;
        }
        let folder = config.folder.join(self.name.replace(' ', "-") + config.variant);
        std::fs::create_dir(&folder).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let file = self.write_config(&folder, &address, config);
        let mut command = Cores::of_proxy(config.workers).command(Path::new(self.program));
        command.args((self.arguments)(&file)).stdout(Stdio::null());
        Server::start(self.name, command, address)
    }

    /// Writes the list of keys and the configuration file. Returns the path of the configuration file.
    fn write_config(&self, folder: &Path, address: &str, config: &PeerConfig<'_>) -> PathBuf {
        let mut keys = String::new();
        for (number, key) in config.keys.iter().enumerate() {
            write!(keys, "{}", (self.key_entry)(key, &format!("caller-{number}"))).unwrap();
        }
        let keys_file = folder.join("keys");
        std::fs::write(&keys_file, &keys).unwrap();
        let (host, port) = address.split_once(':').unwrap();
        let (upstream_host, upstream_port) = config.upstream.split_once(':').unwrap();
        let authorizer = config.authorizer.unwrap_or_default();
        let (authorizer_host, authorizer_port) = authorizer.split_once(':').unwrap_or_default();
        let placeholders = [
            ("folder", path_string(folder)),
            ("address", address.to_owned()),
            ("host", host.to_owned()),
            ("port", port.to_owned()),
            ("upstream", config.upstream.to_owned()),
            ("upstream_host", upstream_host.to_owned()),
            ("upstream_port", upstream_port.to_owned()),
            ("authorizer", authorizer.to_owned()),
            ("authorizer_host", authorizer_host.to_owned()),
            ("authorizer_port", authorizer_port.to_owned()),
            ("keys", path_string(&keys_file)),
            ("credentials", keys.trim_end().to_owned()),
            ("tls", config.certificate.map(self.tls_options).unwrap_or_default()),
            ("workers", config.workers.to_string()),
            ("connections", config.connections.to_string()),
        ];
        let filled = placeholders.iter().fold(self.template.to_owned(), |text, (placeholder, value)| {
            text.replace(&format!("{{{{{placeholder}}}}}"), value)
        });
        let file = folder.join(self.file);
        std::fs::write(&file, filled).unwrap();
        file
    }
}

fn nginx_arguments(file: &Path) -> Vec<String> {
    // The default error log of nginx may not be writable.
    ["-e", "stderr", "-p", &path_string(file.parent().unwrap()), "-c", &path_string(file)]
        .map(ToOwned::to_owned)
        .to_vec()
}

fn nginx_tls_options(certificate: &Certificate) -> String {
    let [certificate, key] = [&certificate.file, &certificate.key_file].map(|file| path_string(file));
    format!(" ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3")
}

fn envoy_tls_options(_: &Certificate) -> String {
    unreachable!("Envoy is only measured in clear text")
}

fn nginx_key_entry(key: &str, caller: &str) -> String {
    format!("\"Bearer {key}\" {caller};\n")
}

fn envoy_arguments(file: &Path) -> Vec<String> {
    ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "--config-path", &path_string(file)]
        .map(ToOwned::to_owned)
        .to_vec()
}

fn envoy_key_entry(key: &str, caller: &str) -> String {
    format!("                        - {{ key: \"{key}\", client: {caller} }}\n")
}

fn path_string(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
