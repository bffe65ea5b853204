//! A certificate and its private key, from two files.

use std::path::Path;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::{FileProblem, TlsError};
#[cfg(feature = "gateway")]
use super::provider::provider;
use super::watched::Source;
use super::x509::CertificateFacts;
use crate::config::CertificateConfig;

/// Loads a certificate and its private key.
pub(super) struct CertificateSource {
    config: CertificateConfig,
    /// The setting of the pair, such as `gateway.listeners.0.tls.certificates.0`.
    setting: String,
    provider: Arc<CryptoProvider>,
}

/// A certificate with its chain and private key.
pub(super) struct LoadedCertificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: CertificateFacts,
}

impl CertificateSource {
    pub(super) fn new(config: &CertificateConfig, setting: String, provider: &Arc<CryptoProvider>) -> Self {
        Self { config: config.clone(), setting, provider: Arc::clone(provider) }
    }

    /// The file of the certificate.
    pub(super) fn path(&self) -> &Path {
        &self.config.certificate
    }

    fn certificate_error(&self, problem: FileProblem) -> TlsError {
        problem.at(&format!("{}.certificate", self.setting), &self.config.certificate)
    }

    fn key_error(&self, problem: FileProblem) -> TlsError {
        problem.at(&format!("{}.key", self.setting), &self.config.key)
    }
}

impl Source for CertificateSource {
    type Value = LoadedCertificate;

    fn files(&self) -> Vec<(String, &Path)> {
        vec![
            (format!("{}.certificate", self.setting), &self.config.certificate),
            (format!("{}.key", self.setting), &self.config.key),
        ]
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<LoadedCertificate, TlsError> {
        let content = |index| contents.get(index).map(Vec::as_slice).unwrap_or_default();
        let chain = certificates(content(0)).map_err(|problem| self.certificate_error(problem))?;
        let facts = CertificateFacts::read(&chain[0])
            .map_err(|error| self.certificate_error(FileProblem::Certificate(error)))?;
        let key = private_key(content(1)).map_err(|problem| self.key_error(problem))?;
        let key = CertifiedKey::from_der(chain, key, &self.provider)
            .map_err(|error| self.key_error(key_problem(error, &self.config.certificate)))?;
        Ok(LoadedCertificate { key: Arc::new(key), facts })
    }
}

/// What is wrong with the private key of the certificate in a file.
fn key_problem(error: rustls::Error, certificate: &Path) -> FileProblem {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            FileProblem::KeyMismatch(certificate.to_owned())
        }
        error => FileProblem::Key(error),
    }
}

/// Checks that a private key can be used with a chain; `certificate` is the file of the chain.
#[cfg(feature = "gateway")]
pub(crate) fn check_pair(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    certificate: &Path,
) -> Result<(), FileProblem> {
    CertificateFacts::read(chain.first().ok_or(FileProblem::NoCertificate)?).map_err(FileProblem::Certificate)?;
    let pair = CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider());
    pair.map(|_| ()).map_err(|error| key_problem(error, certificate))
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(FileProblem::Pem)?;
    if certificates.is_empty() { Err(FileProblem::NoCertificate) } else { Ok(certificates) }
}

/// The private key of a PEM file.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, FileProblem> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound => FileProblem::NoKey,
        error => FileProblem::Pem(error),
    })
}
