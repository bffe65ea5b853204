//! The choice of a certificate by the server name that the client sends (RFC 6066 section 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::LoadedCertificate;

/// The certificates of a listener by their DNS names.
#[derive(Debug, Default)]
pub(super) struct CertificateResolver {
    exact: ByName,
    /// By the name without `*.`; matches exactly one label.
    wildcard: ByName,
    /// For clients that ask for no name or for one that no certificate has.
    fallback: Option<Arc<CertifiedKey>>,
}

/// Certificates by name, in the order of the configuration: they may have keys of different types.
type ByName = HashMap<Box<str>, Vec<Arc<CertifiedKey>>>;

impl CertificateResolver {
    /// A resolver over certificates. The first is the fallback.
    pub(super) fn new<'a>(certificates: impl IntoIterator<Item = &'a LoadedCertificate>) -> Self {
        let mut resolver = Self::default();
        for certificate in certificates {
            resolver.fallback.get_or_insert_with(|| Arc::clone(&certificate.key));
            for name in certificate.facts.dns_names() {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut resolver.wildcard, parent),
                    None => (&mut resolver.exact, name),
                };
                map.entry(name.into()).or_default().push(Arc::clone(&certificate.key));
            }
        }
        resolver
    }

    /// The certificates for a name, the exact ones if there are any.
    fn candidates(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        self.exact.get(&*name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(candidates) = hello.server_name().and_then(|name| self.candidates(name)) else {
            return self.fallback.clone();
        };
        let is_usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(is_usable).or_else(|| candidates.first()).cloned()
    }
}
