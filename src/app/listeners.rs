//! Listening sockets, bound before anything else starts: a port in use is reported before the database is opened.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

use super::error::AppError;
use crate::admin::ListenerInfo;
use crate::config::{Config, ExternalAuthConfig, GatewayConfig, ListenerConfig, PublicConfig, listen_ip};
use crate::external_auth::Sockets;
use crate::listener::{ListeningSocket, UnixSocket};

/// The bound sockets of one process.
#[derive(Debug)]
pub struct Listeners {
    /// The sockets of the gateway, one for each of its listeners; none without a gateway.
    pub gateway: Vec<ListeningSocket>,
    /// The socket of the admin API.
    pub admin: ListeningSocket,
    /// The socket for operations that need no key.
    pub public: Option<TcpListener>,
    /// The socket of health checks and metrics.
    pub metrics: TcpListener,
    /// The sockets of external authorization.
    pub external_auth: Sockets,
}

impl Listeners {
    /// Binds all addresses of a configuration.
    ///
    /// # Errors
    /// [`AppError`] with the first address that cannot be bound, and the setting to change.
    pub fn bind(config: &Config) -> Result<Self, AppError> {
        let http = &config.serve.http;
        let metrics = &config.serve.metrics;
        Ok(Self {
            gateway: gateway(config.gateway.as_ref())?,
            admin: match &http.socket {
                Some(path) => bind_unix(path.as_ref(), "serve.http.socket")?.into(),
                None => bind(SocketAddr::new(ip(&http.host, "serve.http.host")?, http.port), "serve.http.port")?.into(),
            },
            public: public(config.serve.public.as_ref())?,
            metrics: bind(
                SocketAddr::new(ip(&metrics.host, "serve.metrics.host")?, metrics.port),
                "serve.metrics.port",
            )?,
            external_auth: external_auth(config.external_auth.as_ref())?,
        })
    }
}

impl Listeners {
    /// What each socket serves, and where.
    pub(super) fn described(&self) -> Vec<ListenerInfo> {
        let tcp = |name, listener: &TcpListener| {
            let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
            ListenerInfo { name, address }
        };
        let unix = |name, socket: &UnixSocket| ListenerInfo { name, address: socket.path().display().to_string() };
        let any = |name, socket: &ListeningSocket| match socket {
            ListeningSocket::Tcp(listener) => tcp(name, listener),
            ListeningSocket::Unix(socket) => unix(name, socket),
        };
        let mut described: Vec<_> = self.gateway.iter().map(|socket| any("gateway", socket)).collect();
        described.push(any("admin", &self.admin));
        described.extend(self.public.iter().map(|listener| tcp("public", listener)));
        described.push(tcp("metrics", &self.metrics));
        described.extend(self.external_auth.tcp.iter().map(|listener| tcp("external_auth", listener)));
        described.extend(self.external_auth.unix.iter().map(|socket| unix("external_auth", socket)));
        described
    }
}

fn public(config: Option<&PublicConfig>) -> Result<Option<TcpListener>, AppError> {
    let Some(config) = config else { return Ok(None) };
    let address = SocketAddr::new(ip(&config.host, "serve.public.host")?, config.port);
    bind(address, "serve.public.port").map(Some)
}

fn gateway(config: Option<&GatewayConfig>) -> Result<Vec<ListeningSocket>, AppError> {
    let Some(config) = config.filter(|config| config.enabled) else { return Ok(Vec::new()) };
    let bind_one = |(setting, listener): (String, ListenerConfig)| match listener.socket_path() {
        Some(path) => bind_unix(path, &setting).map(ListeningSocket::Unix),
        None => bind(parse(&listener.address, &setting)?, &setting).map(ListeningSocket::Tcp),
    };
    config.effective_listeners().into_iter().map(bind_one).collect()
}

fn external_auth(config: Option<&ExternalAuthConfig>) -> Result<Sockets, AppError> {
    let Some(config) = config else { return Ok(Sockets::default()) };
    let tcp = match &config.address {
        Some(address) => Some(bind(parse(address, "external_auth.address")?, "external_auth.address")?),
        None => None,
    };
    let unix = config.socket.as_ref().map(|path| bind_unix(path.as_ref(), "external_auth.socket"));
    Ok(Sockets { tcp, unix: unix.transpose()? })
}

fn bind_unix(path: &Path, setting: &str) -> Result<UnixSocket, AppError> {
    let message = |cause| AppError::io(format!("cannot listen on {} ({setting})", path.display()), cause);
    UnixSocket::bind(path).map_err(message)
}

/// Binds one address; `setting` is the setting that determines it.
///
/// # Errors
/// [`AppError`] with the address and the setting.
pub fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).map_err(|cause| match cause.kind() {
        ErrorKind::AddrInUse => {
            AppError::Setting(format!("{address} is in use by another program; stop it or choose another {setting}"))
        }
        _ => AppError::io(format!("cannot listen on {address} ({setting})"), cause),
    })
}

fn parse(text: &str, setting: &str) -> Result<SocketAddr, AppError> {
    text.parse().map_err(|_| AppError::Setting(format!("{setting} must be an IP address and a port")))
}

fn ip(text: &str, setting: &str) -> Result<IpAddr, AppError> {
    listen_ip(text).ok_or_else(|| AppError::Setting(format!("{setting} must be an IP address")))
}
