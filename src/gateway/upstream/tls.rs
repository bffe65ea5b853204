//! TLS to an upstream: the authorities, the certificate of Keygate, and the lowest version.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::protocols::tls::{CaType, SslDigest};
use pingora::tls::{CertificateDer, PrivateKeyDer, RootCertStore, load_native_certs};
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorType};

use crate::config::{EndpointConfig, GatewayConfig, TlsVersion, UpstreamConfig, UpstreamTlsConfig};
use crate::listener::tls::{
    FileProblem, Metrics, Source, TlsError, Watched, certificates, check_pair, private_key, report, watch_files,
};

/// The version of TLS 1.3 as pingora reports it.
const TLS_1_3: &str = "TLSv1_3";

/// TLS to the endpoints of an upstream.
pub(super) struct UpstreamTls {
    upstream: Arc<str>,
    min_version: TlsVersion,
    current: ArcSwap<Trust>,
    files: Mutex<Watched<TrustFiles>>,
    metrics: Metrics,
}

/// The authorities that connections trust, and the client certificate that they present.
struct Trust {
    /// How often the files have changed. Connections of different generations are not shared.
    generation: u64,
    /// `None` for those of the system.
    authorities: Option<Arc<CaType>>,
    certificate: Option<Arc<CertKey>>,
}

/// The files of an upstream.
struct TrustFiles {
    config: UpstreamTlsConfig,
    /// The setting of its TLS, such as `gateway.upstreams.orders.tls`.
    setting: String,
}

/// The certificates of a file.
type Chain = Vec<CertificateDer<'static>>;

/// What the files contain.
struct TrustContent {
    authorities: Option<Arc<CaType>>,
    certificate: Option<Arc<CertKey>>,
}

impl UpstreamTls {
    /// Loads the files of an upstream; `None` if it has no settings for TLS.
    ///
    /// # Errors
    /// [`TlsError`] with the first file that is not usable.
    pub(super) fn load(
        name: &Arc<str>,
        config: &UpstreamConfig,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let files = Watched::load(TrustFiles::new(name, tls))?;
        let trust = Trust::new(0, files.value());
        Ok(Some(Arc::new(Self {
            upstream: Arc::clone(name),
            min_version: tls.min_version,
            current: ArcSwap::from_pointee(trust),
            files: Mutex::new(files),
            metrics: metrics.clone(),
        })))
    }

    /// Sets what a connection to the peer trusts and presents. Peers of the same group with the same trust share connections.
    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        let trust = self.current.load();
        peer.options.ca.clone_from(&trust.authorities);
        peer.client_cert_key.clone_from(&trust.certificate);
        if trust.generation > 0 {
            let mut hasher = DefaultHasher::new();
            (peer.group_key, trust.generation).hash(&mut hasher);
            peer.group_key = hasher.finish();
        }
    }

    /// How often the files have changed.
    pub(super) fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// Checks the version of an established connection, before a request is sent on it. pingora offers TLS 1.2 and 1.3 to every endpoint.
    ///
    /// # Errors
    /// If the version is too low.
    pub(super) fn check_version(&self, tls: Option<&SslDigest>) -> pingora::Result<()> {
        let version = tls.map(|tls| tls.version.clone());
        match version {
            Some(version) if self.min_version == TlsVersion::Tls13 && version != TLS_1_3 => {
                let text = format!("the endpoint uses {version}, and tls.min_version is 1.3");
                let cause = io::Error::other(rustls::Error::General(text));
                Err(Error::because(ErrorType::TLSHandshakeFailure, "after the handshake", cause).into_up())
            }
            _ => Ok(()),
        }
    }

    /// Reads the files every second until the future is dropped. A file that is not usable is logged, and the last good content stays in
    /// use.
    pub(super) fn watch(self: Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        watch_files(move || self.reload())
    }

    fn reload(&self) {
        let mut files = self.files.lock();
        if report(files.poll(), &self.metrics) {
            self.current.store(Arc::new(Trust::new(self.generation() + 1, files.value())));
            tracing::info!(upstream = &*self.upstream, "the TLS files of the upstream were reloaded");
        }
    }
}

impl Trust {
    fn new(generation: u64, content: &TrustContent) -> Self {
        Self { generation, authorities: content.authorities.clone(), certificate: content.certificate.clone() }
    }
}

impl TrustFiles {
    fn new(upstream: &str, config: &UpstreamTlsConfig) -> Self {
        Self { config: config.clone(), setting: format!("gateway.upstreams.{upstream}.tls") }
    }

    /// The files that are set, each with the name of its setting.
    fn named(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let UpstreamTlsConfig { ca_file, certificate_file, key_file, .. } = &self.config;
        let files = [("ca_file", ca_file), ("certificate_file", certificate_file), ("key_file", key_file)];
        files.into_iter().filter_map(|(name, file)| Some((name, file.as_deref()?)))
    }
}

impl Source for TrustFiles {
    type Value = TrustContent;

    fn files(&self) -> Vec<(String, &Path)> {
        self.named().map(|(name, file)| (format!("{}.{name}", self.setting), file)).collect()
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<TrustContent, TlsError> {
        let file = |wanted: &str| self.named().zip(contents).find(|((name, _), _)| *name == wanted);
        let error =
            |name: &str, path: &Path, problem: FileProblem| problem.at(&format!("{}.{name}", self.setting), path);
        let read = |wanted: &str, parse: fn(&[u8]) -> Result<Chain, FileProblem>| -> Result<Option<Chain>, TlsError> {
            let Some(((name, path), content)) = file(wanted) else { return Ok(None) };
            parse(content).map(Some).map_err(|problem| error(name, path, problem))
        };
        let authorities = read("ca_file", authorities)?;
        let chain = read("certificate_file", certificates)?;
        let certificate = match (chain, file("key_file")) {
            (Some(chain), Some(((name, path), content))) => {
                let certificate = self.config.certificate_file.as_deref().unwrap_or(path);
                let key = private_key(content).and_then(|key| {
                    check_pair(&chain, &key, certificate)?;
                    Ok(key)
                });
                let key = key.map_err(|problem| error(name, path, problem))?;
                Some(Arc::new(cert_key(&chain, &key)))
            }
            _ => None,
        };
        let authorities = authorities.map(|certificates| certificates.iter().map(wrapped).collect());
        Ok(TrustContent { authorities, certificate })
    }
}

/// The certificates of a PEM file, each of which can be used as an authority.
fn authorities(pem: &[u8]) -> Result<Chain, FileProblem> {
    let certificates = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(FileProblem::Authority)?;
    }
    Ok(certificates)
}

fn wrapped(certificate: &CertificateDer<'static>) -> WrappedX509 {
    WrappedX509::new(certificate.to_vec(), parse_x509)
}

fn cert_key(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> CertKey {
    CertKey::new(chain.iter().map(|certificate| certificate.to_vec()).collect(), key.secret_der().to_vec())
}

/// Checks that the authorities of the system can be read, and that there are some if an upstream needs them.
///
/// # Errors
/// [`TlsError`] with what to do.
pub(super) fn check_system_authorities(config: &GatewayConfig) -> Result<(), TlsError> {
    let found = load_native_certs().map_err(TlsError::SystemAuthorities)?;
    let needs_them = |(_, upstream): &(&String, &UpstreamConfig)| {
        let has_own = upstream.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some());
        !has_own && upstream.endpoints.iter().filter_map(EndpointConfig::parsed).any(|url| url.tls)
    };
    match config.upstreams.iter().find(needs_them) {
        Some((name, _)) if found.is_empty() => {
            Err(TlsError::NoAuthorities { setting: format!("gateway.upstreams.{name}.tls.ca_file") })
        }
        _ => Ok(()),
    }
}

/// Reads the TLS files of all upstreams and returns what is wrong with them.
pub fn check_upstream_files(config: &GatewayConfig) -> Vec<TlsError> {
    let files = config.upstreams.iter().filter_map(|(name, upstream)| {
        let tls = upstream.tls.as_ref()?;
        Watched::load(TrustFiles::new(name, tls)).err()
    });
    files.chain(check_system_authorities(config).err()).collect()
}
