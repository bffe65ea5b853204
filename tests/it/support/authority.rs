//! A certificate authority, and a certificate signed by it for `localhost`.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A certificate authority with one server certificate.
pub(crate) struct Authority {
    /// The authority's own certificate, in a PEM file.
    pub(crate) file: PathBuf,
    /// The server's certificate in PEM.
    pub(crate) certificate: String,
    /// The private key of that certificate in PEM.
    pub(crate) key: String,
}

impl Authority {
    /// Generates the authority and the certificate; writes the authority's file into `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = folder.join("authority.pem");
        std::fs::write(&file, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
        Self { file, certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
