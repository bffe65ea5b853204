//! A TLS server that tells each client what it knows of the connection and then echoes.

use std::net::SocketAddr;
use std::path::Path;

use keygate::config::TlsConfig;
use keygate::connection::TlsInfo;
use keygate::listener::tls::{Metrics, TlsAcceptor, TlsError, check_files};
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::authority::Pair;

const SETTING: &str = "gateway.listeners.0.tls";

/// A running server; it ends on drop.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    registry: Registry,
    _tasks: JoinSet<()>,
}

/// Writes pairs to `NAME.crt` and `NAME.key` and returns the setting `certificates`.
pub(super) fn files(folder: &Path, pairs: &[(&str, Pair)]) -> Value {
    let write = |(name, pair): &(&str, Pair)| {
        let (certificate, key) = pair.write(folder, name);
        json!({ "certificate": certificate, "key": key })
    };
    pairs.iter().map(write).collect()
}

/// TLS settings with these certificates.
pub(super) fn tls(certificates: &Value) -> Value {
    json!({ "certificates": certificates, "handshake_timeout": "60s" })
}

fn parse(config: &Value) -> TlsConfig {
    serde_json::from_value(config.clone()).unwrap()
}

pub(super) fn acceptor(config: &Value, http2: bool) -> Result<TlsAcceptor, TlsError> {
    TlsAcceptor::new(&parse(config), http2, SETTING, &Metrics::register(&Registry::new()).unwrap())
}

/// What is wrong with the files of a configuration.
pub(super) fn check(config: &Value) -> Vec<String> {
    check_files(&parse(config), SETTING).iter().map(ToString::to_string).collect()
}

impl Server {
    pub(super) async fn start(config: &Value) -> Self {
        Self::start_with(config, true).await
    }

    pub(super) async fn start_with(config: &Value, http2: bool) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let acceptor = TlsAcceptor::new(&parse(config), http2, SETTING, &metrics).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(acceptor.watch());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // The client sees a refusal; the metrics count it.
                    let Ok((mut stream, info)) = acceptor.accept(stream).await else { return };
                    let text = encode(&info);
                    // A client may leave at any time.
                    let _ = stream.write_all(text.as_bytes()).await;
                    let mut buffer = [0; 1024];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        let _ = stream.write_all(&buffer[..length]).await;
                    }
                });
            }
        });
        Self { address, registry, _tasks: tasks }
    }

    /// Checks the value of a metric.
    pub(super) fn counts(&self, series: &str, value: usize) -> Result<(), String> {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = format!("{series} {value}");
        if text.lines().any(|found| found == line) { Ok(()) } else { Err(format!("{line} is not in\n{text}")) }
    }
}

/// One line that the client's side decodes.
fn encode(info: &TlsInfo) -> String {
    let certificate = info.client_certificate.as_ref();
    let certificate = certificate.map(|certificate| json!({ "subject": certificate.subject, "san": certificate.san }));
    let info = json!({ "server_name": info.server_name, "http2": info.http2, "client_certificate": certificate });
    format!("{info}\n")
}
