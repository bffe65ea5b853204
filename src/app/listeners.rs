//! Listening sockets, bound before anything else starts: a port in use is reported before the database is opened.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};

use super::error::AppError;
use crate::config::{Config, listen_ip};

/// The bound sockets of one process.
#[derive(Debug)]
pub struct Listeners {
    /// The socket of the gateway, if there is one.
    pub gateway: Option<TcpListener>,
    /// The socket of the admin API.
    pub admin: TcpListener,
    /// The socket of health checks and metrics.
    pub metrics: TcpListener,
}

impl Listeners {
    /// Binds all addresses of a configuration.
    ///
    /// # Errors
    /// [`AppError`] with the first address that cannot be bound, and the setting to change.
    pub fn bind(config: &Config) -> Result<Self, AppError> {
        let http = &config.serve.http;
        let metrics = &config.serve.metrics;
        let gateway = match &config.gateway {
            Some(gateway) => Some(bind(parse(&gateway.address, "gateway.address")?, "gateway.address")?),
            None => None,
        };
        Ok(Self {
            gateway,
            admin: bind(SocketAddr::new(ip(&http.host, "serve.http.host")?, http.port), "serve.http.port")?,
            metrics: bind(
                SocketAddr::new(ip(&metrics.host, "serve.metrics.host")?, metrics.port),
                "serve.metrics.port",
            )?,
        })
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
