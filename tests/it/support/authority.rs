//! A certificate authority, and a certificate of it for `localhost`.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// What a server needs to be trusted by whoever trusts the authority.
pub(crate) struct Authority {
    /// A file with the authority's own certificate.
    pub(crate) file: PathBuf,
    /// The server's certificate.
    pub(crate) certificate: String,
    /// The key of that.
    pub(crate) key: String,
}

impl Authority {
    /// A new one, with its file in a folder.
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
