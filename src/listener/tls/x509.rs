//! Names and validity of a certificate (RFC 5280). Chains and signatures are verified by rustls.

use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::{Decode, Error as DerError};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum X509Error {
    /// It is not a certificate in DER.
    #[error("{0}")]
    Der(#[from] DerError),
    /// A subject alternative name of type IP address has neither 4 nor 16 bytes.
    #[error("an IP address in its alternative names has a wrong length")]
    Address,
}

/// What is read from a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateFacts {
    /// The subject (RFC 4514).
    pub(super) subject: Box<str>,
    /// The subject alternative names, each with its type: `DNS:` in lower case, `URI:`, `EMAIL:`, `IP:`. Other types are left out.
    pub(super) san: Box<[Box<str>]>,
    /// The start of its validity, in seconds since 1970.
    pub(super) not_before: u64,
    /// The end of its validity, in seconds since 1970.
    pub(super) not_after: u64,
}

impl CertificateFacts {
    /// Reads a certificate in DER.
    pub(super) fn read(der: &[u8]) -> Result<Self, X509Error> {
        let certificate = Certificate::from_der(der)?;
        let certificate = certificate.tbs_certificate();
        let names = certificate.get_extension::<SubjectAltName>()?.map(|(_, names)| names.0).unwrap_or_default();
        let validity = certificate.validity();
        Ok(Self {
            subject: certificate.subject().to_string().into(),
            san: names.iter().filter_map(|name| text(name).transpose()).collect::<Result<_, _>>()?,
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
        })
    }

    /// The DNS names, in lower case.
    pub(super) fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.san.iter().filter_map(|name| name.strip_prefix("DNS:"))
    }
}

/// The text of an alternative name; `None` for other types.
fn text(name: &GeneralName) -> Result<Option<Box<str>>, X509Error> {
    let text = match name {
        GeneralName::DnsName(name) => format!("DNS:{}", name.as_str().to_ascii_lowercase()),
        GeneralName::UniformResourceIdentifier(uri) => format!("URI:{}", uri.as_str()),
        GeneralName::Rfc822Name(address) => format!("EMAIL:{}", address.as_str()),
        GeneralName::IpAddress(address) => {
            let address = address.as_bytes();
            let ip = <[u8; 4]>::try_from(address).map(IpAddr::from);
            let ip = ip.or_else(|_| <[u8; 16]>::try_from(address).map(IpAddr::from));
            format!("IP:{}", ip.map_err(|_| X509Error::Address)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType};

    use super::*;

    fn read(params: &CertificateParams) -> Result<CertificateFacts, X509Error> {
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        CertificateFacts::read(certificate.der())
    }

    #[test]
    fn subject_is_text_of_rfc_4514() {
        for (attributes, text) in [
            (&[(DnType::CommonName, "reports")][..], "CN=reports"),
            (
                &[(DnType::CountryName, "DE"), (DnType::OrganizationName, "Example"), (DnType::CommonName, "a")],
                "CN=a,O=Example,C=DE",
            ),
            (&[(DnType::CommonName, "a,CN=admin")], r"CN=a\,CN=admin"),
            (&[(DnType::CommonName, " #\"+;<>\\ ")], r#"CN=\ #\"\+\;\<\>\\\ "#),
            (&[(DnType::CommonName, "#a")], r"CN=\#a"),
            (&[(DnType::CommonName, "a\r\nb")], r"CN=a\0d\0ab"),
            (&[(DnType::OrganizationName, "Müller")], "O=Müller"),
            (&[(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 99999, 1]), "x")], "1.3.6.1.4.1.99999.1=#0c0178"),
            (&[], ""),
        ] {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in attributes {
                params.distinguished_name.push(kind.clone(), *value);
            }
            assert_eq!(&*read(&params).unwrap().subject, text);
        }
    }

    #[test]
    fn alternative_names_have_their_types() {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName("API.example.com".try_into().unwrap()),
            SanType::DnsName("*.example.com".try_into().unwrap()),
            SanType::URI("spiffe://example/reports".try_into().unwrap()),
            SanType::Rfc822Name("ana@example.com".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "ana".into())),
        ];
        let facts = read(&params).unwrap();
        let names: Vec<&str> = facts.san.iter().map(|name| &**name).collect();
        assert_eq!(
            names,
            [
                "DNS:api.example.com",
                "DNS:*.example.com",
                "URI:spiffe://example/reports",
                "EMAIL:ana@example.com",
                "IP:192.0.2.1",
                "IP:2001:db8::1",
            ]
        );
        assert_eq!(facts.dns_names().collect::<Vec<_>>(), ["api.example.com", "*.example.com"]);
        assert!(facts.not_before < facts.not_after);
    }

    #[test]
    fn certificate_with_names_that_cannot_be_read_is_an_error() {
        for names in [&[0x30, 0x05, 0x87, 0x03, 1, 2, 3][..], b"\x30\x04\x82\x03ab", b"\x30\x03\x82\x01\xff"] {
            let mut params = CertificateParams::default();
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], names.to_vec())];
            read(&params).unwrap_err();
        }
        CertificateFacts::read(b"text").unwrap_err();
    }
}
