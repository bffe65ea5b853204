//! Every kind of listener of the gateway, and clients for each.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use keygate_test_servers::{WAIT_TIMEOUT, free_port};
use reqwest::{Certificate, Client};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::authority::Authority;
use super::client_stream::{ClientStream, Socket};
use super::keygate::{Keygate, merge};

/// How a client reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    Tcp,
    Unix,
    Tls,
    ProxyV1,
    ProxyV2,
    UnixBehindProxy,
    TlsBehindProxy,
}

/// What a client speaks: with TLS by ALPN, otherwise with prior knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A connection of an asynchronous client.
pub(crate) trait AsyncStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AsyncStream for S {}

/// One listener of each kind.
pub(crate) struct Listeners {
    folder: TempDir,
    authority: Authority,
    tcp: u16,
    tls: u16,
    proxy: u16,
    tls_behind_proxy: u16,
}

/// The client in PROXY headers is the one that a direct connection has, so that requests have the same outcome.
const PROXY_V1: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 80\r\n";
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x9c\x40\0\x50";

impl ListenerKind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Tcp, Self::Unix, Self::Tls, Self::ProxyV1, Self::ProxyV2, Self::UnixBehindProxy, Self::TlsBehindProxy];
    /// Those that a client reaches by a URL.
    pub(crate) const BY_URL: [Self; 2] = [Self::Tcp, Self::Tls];

    /// All kinds, one after the other. A failed test shows the last one.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().inspect(|kind| println!("listener: {kind:?}"))
    }

    /// Runs a check on all kinds at once, each in a thread with its name.
    pub(crate) fn each_at_once(check: impl Fn(Self) + Sync) {
        let check = &check;
        std::thread::scope(|scope| {
            for kind in Self::ALL {
                let thread = std::thread::Builder::new().name(format!("{kind:?}"));
                thread.spawn_scoped(scope, move || check(kind)).unwrap();
            }
        });
    }

    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::TlsBehindProxy)
    }

    /// What a proxy sends first.
    pub(crate) fn preamble(self) -> &'static [u8] {
        match self {
            Self::Tcp | Self::Unix | Self::Tls => b"",
            Self::ProxyV1 => PROXY_V1,
            Self::ProxyV2 | Self::UnixBehindProxy | Self::TlsBehindProxy => PROXY_V2,
        }
    }
}

impl Listeners {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new(folder.path());
        authority.server(&["localhost"]).write(folder.path(), "server");
        Self {
            folder,
            authority,
            tcp: free_port(),
            tls: free_port(),
            proxy: free_port(),
            tls_behind_proxy: free_port(),
        }
    }

    /// The setting `gateway.listeners`, each with these settings; `tls` is for those that have it.
    pub(crate) fn config(&self, settings: &Value) -> Value {
        let (certificate, key) = self.certificate();
        let mut tls = json!({"certificates": [{"certificate": certificate, "key": key}]});
        if let Some(more) = settings.get("tls") {
            merge(&mut tls, more);
        }
        let proxy = json!({"trusted": ["127.0.0.0/8"]});
        let tcp = |port: u16| format!("127.0.0.1:{port}");
        let unix = |kind| format!("unix:{}", self.socket_path(kind).display());
        let mut listeners = json!([
            {"address": tcp(self.tcp)},
            {"address": tcp(self.tls), "tls": tls},
            {"address": tcp(self.proxy), "proxy_protocol": proxy},
            {"address": tcp(self.tls_behind_proxy), "tls": tls, "proxy_protocol": proxy},
            {"address": unix(ListenerKind::Unix)},
            {"address": unix(ListenerKind::UnixBehindProxy), "proxy_protocol": proxy},
        ]);
        for listener in listeners.as_array_mut().unwrap() {
            let mut own = settings.clone();
            own.as_object_mut().unwrap().remove("tls");
            merge(listener, &own);
        }
        listeners
    }

    /// Starts a Keygate with these listeners, each with `settings`. `gateway` has the rest of the section.
    pub(crate) fn serve(&self, gateway: &Value, settings: &Value) -> Keygate {
        self.serve_with(gateway, settings, &json!({}))
    }

    /// The same with settings of other sections.
    pub(crate) fn serve_with(&self, gateway: &Value, settings: &Value, others: &Value) -> Keygate {
        let mut gateway = gateway.clone();
        gateway["listeners"] = self.config(settings);
        let mut keygate = Keygate::serve(&gateway, others);
        keygate.gateway = self.url(ListenerKind::Tcp);
        keygate
    }

    fn socket_path(&self, kind: ListenerKind) -> PathBuf {
        let name = if kind == ListenerKind::Unix { "gateway.sock" } else { "proxy.sock" };
        self.folder.path().join(name)
    }

    fn port(&self, kind: ListenerKind) -> Option<u16> {
        match kind {
            ListenerKind::Tcp => Some(self.tcp),
            ListenerKind::Tls => Some(self.tls),
            ListenerKind::ProxyV1 | ListenerKind::ProxyV2 => Some(self.proxy),
            ListenerKind::TlsBehindProxy => Some(self.tls_behind_proxy),
            ListenerKind::Unix | ListenerKind::UnixBehindProxy => None,
        }
    }

    /// The URL of a listener of [`ListenerKind::BY_URL`].
    pub(crate) fn url(&self, kind: ListenerKind) -> String {
        match kind {
            ListenerKind::Tls => format!("https://localhost:{}", self.tls),
            _ => format!("http://127.0.0.1:{}", self.tcp),
        }
    }

    /// A client for a listener of [`ListenerKind::BY_URL`]. It does not follow redirects.
    pub(crate) fn client(&self, kind: ListenerKind, protocol: Protocol) -> Client {
        let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(WAIT_TIMEOUT);
        let builder = match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_prior_knowledge(),
        };
        if !kind.has_tls() {
            return builder.build().unwrap();
        }
        let root = Certificate::from_pem(&std::fs::read(&self.authority.file).unwrap()).unwrap();
        builder.tls_certs_only([root]).build().unwrap()
    }

    /// The authority of the certificate.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The files of the certificate and its key.
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        let file = |name: &str| self.folder.path().join(name);
        (file("server.crt"), file("server.key"))
    }

    /// Connects; reads fail after [`WAIT_TIMEOUT`]. With TLS, the handshake is performed.
    pub(crate) fn connect(&self, kind: ListenerKind, protocol: Protocol) -> ClientStream {
        let tls = kind.has_tls().then(|| ClientConnection::new(self.tls(protocol), server_name()).unwrap());
        ClientStream::new(self.open(kind), tls).unwrap()
    }

    /// The same without the TLS handshake.
    pub(crate) fn connect_without_tls(&self, kind: ListenerKind) -> ClientStream {
        ClientStream::new(self.open(kind), None).unwrap()
    }

    /// The same without a PROXY header, too: nothing is sent.
    pub(crate) fn connect_bare(&self, kind: ListenerKind) -> ClientStream {
        ClientStream::new(self.socket(kind), None).unwrap()
    }

    /// What a client sends first with TLS.
    pub(crate) fn client_hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        let mut tls = ClientConnection::new(self.tls(Protocol::Http1), server_name()).unwrap();
        tls.write_tls(&mut hello).unwrap();
        hello
    }

    /// Connects with TLS to another server on this machine with the same certificate.
    pub(crate) fn connect_to(&self, port: u16) -> ClientStream {
        let tls = ClientConnection::new(self.tls(Protocol::Http1), server_name()).unwrap();
        ClientStream::new(Socket::tcp(port), Some(tls)).unwrap()
    }

    /// Connects an asynchronous client.
    pub(crate) async fn connect_async(&self, kind: ListenerKind, protocol: Protocol) -> Box<dyn AsyncStream> {
        let stream: Box<dyn AsyncStream> = match self.open(kind) {
            Socket::Tcp(stream) => {
                stream.set_nonblocking(true).unwrap();
                Box::new(tokio::net::TcpStream::from_std(stream).unwrap())
            }
            Socket::Unix(stream) => {
                stream.set_nonblocking(true).unwrap();
                Box::new(tokio::net::UnixStream::from_std(stream).unwrap())
            }
        };
        if !kind.has_tls() {
            return stream;
        }
        Box::new(TlsConnector::from(self.tls(protocol)).connect(server_name(), stream).await.unwrap())
    }

    /// A connection that has sent what a proxy sends.
    fn open(&self, kind: ListenerKind) -> Socket {
        let mut socket = self.socket(kind);
        socket.write_all(kind.preamble()).unwrap();
        socket
    }

    fn socket(&self, kind: ListenerKind) -> Socket {
        match self.port(kind) {
            Some(port) => Socket::tcp(port),
            None => Socket::Unix(UnixStream::connect(self.socket_path(kind)).unwrap()),
        }
    }

    fn tls(&self, protocol: Protocol) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authority.file).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        let name: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![name.to_vec()];
        Arc::new(config)
    }
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}
