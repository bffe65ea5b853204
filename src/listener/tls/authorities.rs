//! The certificate authorities of clients (mutual TLS), and what is known of a client's certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::certificate::certificates;
use super::error::{ClientCertificateProblem, FileProblem, TlsError};
use super::watched::Source;
use super::x509::CertificateFacts;
use crate::clock::Timestamp;
use crate::config::{ClientCertificateMode, ClientCertificatesConfig};
use crate::connection::ClientCertificate;

/// Maximum length of the subject and the alternative names of a client's certificate, in bytes.
const NAMES_MAX: usize = 8 * 1024;

/// Loads the authorities.
pub(super) struct AuthoritySource {
    config: ClientCertificatesConfig,
    /// The setting of the file.
    setting: String,
    provider: Arc<CryptoProvider>,
}

impl AuthoritySource {
    pub(super) fn new(config: &ClientCertificatesConfig, setting: String, provider: &Arc<CryptoProvider>) -> Self {
        Self { config: config.clone(), setting, provider: Arc::clone(provider) }
    }

    fn verifier(&self, pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, FileProblem> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem)? {
            roots.add(certificate).map_err(FileProblem::Authority)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
        let builder = match self.config.mode {
            ClientCertificateMode::Required => builder,
            ClientCertificateMode::Optional => builder.allow_unauthenticated(),
        };
        builder.build().map_err(FileProblem::Authorities)
    }
}

impl Source for AuthoritySource {
    type Value = Arc<dyn ClientCertVerifier>;

    fn files(&self) -> Vec<(String, &Path)> {
        vec![(self.setting.clone(), &self.config.ca)]
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<Self::Value, TlsError> {
        let pem = contents.first().map(Vec::as_slice).unwrap_or_default();
        self.verifier(pem).map_err(|problem| problem.at(&self.setting, &self.config.ca))
    }
}

/// Reads a client's certificate that rustls has verified, now or when the session began that this connection resumes. That it has not
/// expired since then is checked here.
pub(super) fn client_certificate(
    certificate: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<ClientCertificate, ClientCertificateProblem> {
    let facts = CertificateFacts::read(certificate).map_err(ClientCertificateProblem::Unreadable)?;
    if now.timestamp().cast_unsigned() > facts.not_after {
        return Err(ClientCertificateProblem::Expired);
    }
    let length = facts.subject.len() + facts.san.iter().map(|name| name.len()).sum::<usize>();
    if length > NAMES_MAX {
        return Err(ClientCertificateProblem::TooLong);
    }
    Ok(ClientCertificate { subject: facts.subject, san: facts.san })
}
