//! Listening sockets, bound before anything else starts: a port in use is reported before the database is opened.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

use super::error::AppError;
use super::handover::Inherited;
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
    /// The sockets of all addresses of a configuration: inherited ones, and new ones where there is none.
    ///
    /// # Errors
    /// [`AppError`] with the first address that cannot be bound, and the setting to change.
    pub fn bind(config: &Config, inherited: &mut Inherited) -> Result<Self, AppError> {
        Binding(inherited).all(config)
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

/// Takes sockets, or binds them.
struct Binding<'i>(&'i mut Inherited);

impl Binding<'_> {
    fn all(&mut self, config: &Config) -> Result<Listeners, AppError> {
        let (http, metrics) = (&config.serve.http, &config.serve.metrics);
        Ok(Listeners {
            gateway: self.gateway(config.gateway.as_ref())?,
            admin: match &http.socket {
                Some(path) => self.unix(path.as_ref(), "serve.http.socket")?.into(),
                None => self.host((&http.host, http.port), "serve.http")?.into(),
            },
            public: self.public(config.serve.public.as_ref())?,
            metrics: self.host((&metrics.host, metrics.port), "serve.metrics")?,
            external_auth: self.external_auth(config.external_auth.as_ref())?,
        })
    }

    fn public(&mut self, config: Option<&PublicConfig>) -> Result<Option<TcpListener>, AppError> {
        config.map(|config| self.host((&config.host, config.port), "serve.public")).transpose()
    }

    fn gateway(&mut self, config: Option<&GatewayConfig>) -> Result<Vec<ListeningSocket>, AppError> {
        let Some(config) = config.filter(|config| config.enabled) else { return Ok(Vec::new()) };
        let mut bind_one = |(setting, listener): (String, ListenerConfig)| match listener.socket_path() {
            Some(path) => self.unix(path, &setting).map(ListeningSocket::Unix),
            None => self.tcp(parse(&listener.address, &setting)?, &setting).map(ListeningSocket::Tcp),
        };
        config.effective_listeners().into_iter().map(&mut bind_one).collect()
    }

    fn external_auth(&mut self, config: Option<&ExternalAuthConfig>) -> Result<Sockets, AppError> {
        let Some(config) = config else { return Ok(Sockets::default()) };
        let tcp = match &config.address {
            Some(address) => Some(self.tcp(parse(address, "external_auth.address")?, "external_auth.address")?),
            None => None,
        };
        let unix = config.socket.as_ref().map(|path| self.unix(path.as_ref(), "external_auth.socket"));
        Ok(Sockets { tcp, unix: unix.transpose()? })
    }

    /// A socket of the settings `host` and `port` below `section`.
    fn host(&mut self, (host, port): (&str, u16), section: &str) -> Result<TcpListener, AppError> {
        let address = SocketAddr::new(ip(host, &format!("{section}.host"))?, port);
        self.tcp(address, &format!("{section}.port"))
    }

    fn tcp(&mut self, address: SocketAddr, setting: &str) -> Result<TcpListener, AppError> {
        self.0.tcp(address).map_or_else(|| bind(address, setting), Ok)
    }

    fn unix(&mut self, path: &Path, setting: &str) -> Result<UnixSocket, AppError> {
        let message = |cause| AppError::io(format!("cannot listen on {} ({setting})", path.display()), cause);
        let inherited = self.0.unix(path).map_err(message)?;
        inherited.map_or_else(|| UnixSocket::bind(path), Ok).map_err(message)
    }
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
