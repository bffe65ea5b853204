//! A certificate authority, and certificates signed by it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};

/// A certificate authority with a server certificate for `localhost`.
pub(crate) struct Authority {
    /// The authority's own certificate, in a PEM file.
    pub(crate) file: PathBuf,
    /// The server's certificate in PEM.
    pub(crate) certificate: String,
    /// The private key of that certificate in PEM.
    pub(crate) key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// Generates the authority and the certificate; writes the authority's file into `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self::named(folder, "authority")
    }

    /// Generates an authority of a name, which is also that of its file.
    pub(crate) fn named(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, authority.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(authority, key);
        let server = issue(&issuer, &server(&["localhost"]));
        Self { file, certificate: server.certificate, key: server.key, issuer }
    }

    /// A server certificate for DNS names.
    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        issue(&self.issuer, &server(names))
    }

    /// A server certificate that has expired.
    pub(crate) fn expired(&self, names: &[&str]) -> Pair {
        let mut params = server(names);
        params.not_after = date_time_ymd(2020, 1, 1);
        issue(&self.issuer, &params)
    }

    /// A client certificate with a common name and a URI.
    pub(crate) fn client(&self, name: &str, uri: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        issue(&self.issuer, &params)
    }
}

impl Pair {
    /// Writes the certificate and the key to `NAME.crt` and `NAME.key` and returns their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        std::fs::write(&certificate, &self.certificate).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (certificate, key)
    }
}

fn server(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn issue(issuer: &Issuer<'_, KeyPair>, params: &CertificateParams) -> Pair {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}
