//! The files of a listener: its certificates, and the authorities of its clients.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;

use super::authorities::AuthoritySource;
use super::certificate::{CertificateSource, LoadedCertificate};
use super::error::TlsError;
use super::metrics::Metrics;
use super::provider::provider;
use super::resolver::CertificateResolver;
use super::watched::{Change, Watched};
use crate::clock::{Clock, SystemClock};
use crate::config::TlsConfig;

/// The files of a listener.
pub(super) struct TlsFiles {
    certificates: Vec<Watched<CertificateSource>>,
    authorities: Option<Watched<AuthoritySource>>,
    metrics: Metrics,
}

/// Which files have a new content that is usable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reloaded {
    pub(super) certificates: bool,
    pub(super) authorities: bool,
}

impl TlsFiles {
    pub(super) fn load(
        config: &TlsConfig,
        setting: &str,
        provider: &Arc<CryptoProvider>,
        metrics: Metrics,
    ) -> Result<Self, TlsError> {
        let certificates = certificates(config, setting, provider).map(Watched::load).collect::<Result<Vec<_>, _>>()?;
        let authorities = authorities(config, setting, provider).map(Watched::load).transpose()?;
        Ok(Self { certificates, authorities, metrics })
    }

    /// Shows when the certificates expire, and warns of those that clients do not get or accept.
    pub(super) fn announce(&self) {
        for (index, certificate) in self.certificates.iter().enumerate() {
            announce(certificate, &self.metrics);
            if index > 0 && certificate.value().facts.dns_names().next().is_none() {
                let path = certificate.source().path().display();
                tracing::warn!(%path, "the certificate has no DNS name, so no client gets it; make it the first one, or remove it");
            }
        }
    }

    pub(super) fn resolver(&self) -> CertificateResolver {
        CertificateResolver::new(self.certificates.iter().map(Watched::value))
    }

    pub(super) fn authorities(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.authorities.as_ref().map(|authorities| Arc::clone(authorities.value()))
    }

    /// Reads all files. Those that are not usable are logged and counted, and the last good content stays in use.
    pub(super) fn poll(&mut self) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for certificate in &mut self.certificates {
            if report(certificate.poll(), &self.metrics) {
                reloaded.certificates = true;
                announce(certificate, &self.metrics);
                tracing::info!(path = %certificate.source().path().display(), "the certificate was reloaded");
            }
        }
        if let Some(authorities) = &mut self.authorities
            && report(authorities.poll(), &self.metrics)
        {
            reloaded.authorities = true;
            tracing::info!("the certificate authorities of clients were reloaded");
        }
        reloaded
    }
}

/// Reads the files of a listener and returns what is wrong with them. `setting` is the setting of the listener's TLS.
pub fn check_files(config: &TlsConfig, setting: &str) -> Vec<TlsError> {
    let provider = provider();
    let certificates = certificates(config, setting, &provider).filter_map(|source| Watched::load(source).err());
    let authorities = authorities(config, setting, &provider).and_then(|source| Watched::load(source).err());
    certificates.chain(authorities).collect()
}

fn certificates(
    config: &TlsConfig,
    setting: &str,
    provider: &Arc<CryptoProvider>,
) -> impl Iterator<Item = CertificateSource> {
    let setting = move |index| format!("{setting}.certificates.{index}");
    config
        .certificates
        .iter()
        .enumerate()
        .map(move |(index, pair)| CertificateSource::new(pair, setting(index), provider))
}

fn authorities(config: &TlsConfig, setting: &str, provider: &Arc<CryptoProvider>) -> Option<AuthoritySource> {
    let config = config.client_certificates.as_ref()?;
    Some(AuthoritySource::new(config, format!("{setting}.client_certificates.ca"), provider))
}

/// Whether a value was loaded.
pub(crate) fn report(change: Change, metrics: &Metrics) -> bool {
    match change {
        Change::None => false,
        Change::Loaded => {
            metrics.reload(true);
            true
        }
        Change::Failed(error) => {
            metrics.reload(false);
            tracing::warn!(%error, "the last good content of the file stays in use");
            false
        }
    }
}

fn announce(certificate: &Watched<CertificateSource>, metrics: &Metrics) {
    let path = certificate.source().path();
    let LoadedCertificate { facts, .. } = certificate.value();
    metrics.expiry(path, facts.not_after);
    let now = SystemClock.now().timestamp().cast_unsigned();
    let path = path.display();
    if facts.not_after < now {
        tracing::warn!(%path, "the certificate has expired, so clients refuse it; replace the file");
    } else if facts.not_before > now {
        tracing::warn!(%path, "the certificate is not valid yet, so clients refuse it; check the clock of this machine");
    }
}
