//! TLS of the listeners, from the files that the configuration names.

use std::collections::BTreeSet;
use std::path::Path;

use prometheus::Registry;
use tokio::runtime::Runtime;

use super::error::AppError;
use crate::config::{Config, GatewayConfig, TlsConfig};
use crate::gateway::check_upstream_files;
use crate::listener::tls::{Metrics, PreparedTls, Source, TlsAcceptor, TlsError, Watched, certificates, check_files};

/// The setting of the authorities of the collector of traces.
const COLLECTOR_AUTHORITIES: &str = "tracing.tls.ca_file";

/// TLS of the listeners; `None` for one in clear text. Clones share it.
#[derive(Clone)]
pub(super) struct TlsAcceptors {
    pub(super) admin: Option<TlsAcceptor>,
    pub(super) public: Option<TlsAcceptor>,
    pub(super) metrics: Option<TlsAcceptor>,
    /// Counts handshakes and reloads of files.
    pub(super) file_metrics: Metrics,
    /// In the order of the effective listeners of the gateway.
    pub(super) gateway: Vec<Option<TlsAcceptor>>,
}

/// A listener in the configuration.
struct Listener {
    /// The setting of its TLS.
    setting: String,
    tls: Option<TlsConfig>,
    http2: bool,
}

impl TlsAcceptors {
    /// Loads the files of all listeners.
    ///
    /// # Errors
    /// [`AppError`] with the first file that is not usable.
    pub(super) fn new(config: &Config, registry: &Registry) -> Result<Self, AppError> {
        let metrics = Metrics::register(registry)?;
        let acceptor = |listener: Listener| {
            let Listener { setting, tls, http2 } = listener;
            tls.map(|tls| TlsAcceptor::new(&tls, http2, &setting, &metrics)).transpose()
        };
        Ok(Self {
            admin: acceptor(admin(config))?,
            public: acceptor(public(config))?,
            metrics: acceptor(metrics_listener(config))?,
            gateway: gateway(config).map(acceptor).collect::<Result<_, _>>()?,
            file_metrics: metrics.clone(),
        })
    }

    /// Watches the files on a runtime.
    pub(super) fn watch(&self, runtime: &Runtime) {
        for acceptor in self.all().flatten() {
            runtime.spawn(acceptor.watch());
        }
    }

    /// All, in the order of [`listeners`].
    fn all(&self) -> impl Iterator<Item = Option<&TlsAcceptor>> {
        [&self.admin, &self.public, &self.metrics].into_iter().chain(&self.gateway).map(Option::as_ref)
    }

    /// Loads the files of another configuration with the same listeners, where its settings of TLS differ.
    ///
    /// # Errors
    /// [`TlsError`] with the first file that is not usable.
    pub(super) fn prepare(&self, config: &Config) -> Result<NewTls, TlsError> {
        let changed = self.all().zip(listeners(config)).filter_map(|(acceptor, listener)| {
            let (acceptor, tls) = (acceptor?, listener.tls?);
            let prepared = acceptor.prepare(&tls, listener.http2, &listener.setting).transpose()?;
            Some(prepared.map(|prepared| (acceptor.clone(), prepared)))
        });
        changed.collect::<Result<_, _>>().map(NewTls)
    }

    /// Uses other settings for new connections.
    pub(super) fn apply(&self, new: NewTls) {
        let files = || self.all().flatten().flat_map(TlsAcceptor::certificate_files).collect::<BTreeSet<_>>();
        let before = files();
        for (acceptor, prepared) in new.0 {
            acceptor.apply(prepared);
        }
        for file in before.difference(&files()) {
            self.file_metrics.remove_expiry(file);
        }
    }
}

/// Other settings of TLS whose files are loaded.
pub(super) struct NewTls(Vec<(TlsAcceptor, PreparedTls)>);

/// Reads the files of certificates that a configuration names, and returns what is wrong with them.
pub fn check_tls(config: &Config) -> Vec<TlsError> {
    let of_listeners =
        listeners(config).filter_map(|listener| Some(check_files(&listener.tls?, &listener.setting))).flatten();
    let gateway = config.gateway.as_ref().filter(|gateway| gateway.enabled);
    let collector = Some(&config.tracing).filter(|tracing| tracing.enabled);
    let collector =
        collector.and_then(|tracing| Watched::load(CollectorAuthorities(tracing.tls.ca_file.as_deref()?)).err());
    of_listeners.chain(gateway.into_iter().flat_map(check_upstream_files)).chain(collector).collect()
}

/// The file of the authorities of the collector of traces.
struct CollectorAuthorities<'c>(&'c Path);

impl Source for CollectorAuthorities<'_> {
    type Value = ();

    fn files(&self) -> Vec<(String, &Path)> {
        vec![(COLLECTOR_AUTHORITIES.to_owned(), self.0)]
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<(), TlsError> {
        let pem = contents.first().map(Vec::as_slice).unwrap_or_default();
        certificates(pem).map(drop).map_err(|problem| problem.at(COLLECTOR_AUTHORITIES, self.0))
    }
}

/// All listeners that may have TLS.
fn listeners(config: &Config) -> impl Iterator<Item = Listener> {
    [admin(config), public(config), metrics_listener(config)].into_iter().chain(gateway(config))
}

fn admin(config: &Config) -> Listener {
    Listener { setting: "serve.http.tls".into(), tls: config.serve.http.tls.clone(), http2: false }
}

fn public(config: &Config) -> Listener {
    let tls = config.serve.public.as_ref().and_then(|public| public.tls.clone());
    Listener { setting: "serve.public.tls".into(), tls, http2: false }
}

fn metrics_listener(config: &Config) -> Listener {
    Listener { setting: "serve.metrics.tls".into(), tls: config.serve.metrics.tls.clone(), http2: false }
}

fn gateway(config: &Config) -> impl Iterator<Item = Listener> {
    let gateway = config.gateway.as_ref().filter(|gateway| gateway.enabled);
    let listeners = gateway.into_iter().flat_map(GatewayConfig::effective_listeners);
    listeners.map(|(address, listener)| Listener {
        setting: address.replace(".address", ".tls"),
        tls: listener.tls,
        http2: listener.http2,
    })
}
