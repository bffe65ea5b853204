//! The certificate of the client: what a route demands of it, and the headers that tell it to the upstream.

use super::headers::{CertificateHeaders, HeaderSelection, value_of};
use crate::config::{AddedHeader, RouteCertificateConfig};
use crate::connection::ClientCertificate;
use crate::key::{encode_text, encode_words};

/// Whether a route allows requests of a client. No demand allows every client.
pub(super) fn is_allowed(demand: Option<&RouteCertificateConfig>, certificate: Option<&ClientCertificate>) -> bool {
    let Some(demand) = demand else { return true };
    let Some(certificate) = certificate else { return false };
    (demand.subjects.is_empty() && demand.sans.is_empty())
        || demand.subjects.iter().any(|subject| **subject == *certificate.subject)
        || demand.sans.iter().any(|name| certificate.san.iter().any(|presented| **presented == **name))
}

/// The selected headers for a certificate. Without a certificate, and for an empty value, there is none.
pub(super) fn certificate_headers(
    selected: HeaderSelection,
    certificate: Option<&ClientCertificate>,
) -> CertificateHeaders {
    let Some(certificate) = certificate else { return CertificateHeaders::default() };
    let value = |text: String| if text.is_empty() { None } else { Some(value_of(text)) };
    let subject = || value(encode_text(&certificate.subject).into_owned());
    let san = || value(encode_words(certificate.san.iter().map(|name| &**name)));
    CertificateHeaders {
        subject: selected.when(AddedHeader::XKeygateClientSubject, subject).flatten(),
        san: selected.when(AddedHeader::XKeygateClientSan, san).flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(subject: &str, san: &[&str]) -> ClientCertificate {
        ClientCertificate { subject: subject.into(), san: san.iter().map(|name| Box::from(*name)).collect() }
    }

    fn demand(subjects: &[&str], sans: &[&str]) -> RouteCertificateConfig {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        RouteCertificateConfig { subjects: texts(subjects), sans: texts(sans) }
    }

    #[test]
    fn one_matching_name_is_enough() {
        let client = certificate("CN=a,O=Example", &["DNS:a.example.com", "URI:urn:a"]);
        for (demand, allowed) in [
            (demand(&[], &[]), true),
            (demand(&["CN=a,O=Example"], &[]), true),
            (demand(&["CN=b", "CN=a,O=Example"], &["DNS:b"]), true),
            (demand(&["CN=b"], &["DNS:b", "URI:urn:a"]), true),
            (demand(&["CN=a"], &[]), false),
            (demand(&["O=Example,CN=a"], &[]), false),
            (demand(&["DNS:a.example.com"], &["CN=a,O=Example"]), false),
            (demand(&[], &["DNS:A.example.com", "URI:urn:", "urn:a"]), false),
        ] {
            assert_eq!(is_allowed(Some(&demand), Some(&client)), allowed, "{demand:?}");
            assert!(!is_allowed(Some(&demand), None));
        }
        assert!(is_allowed(None, None) && is_allowed(None, Some(&client)));
    }

    #[test]
    fn selected_headers_are_encoded() {
        let client = certificate("CN=Müller\\, A", &["URI:a b", "DNS:a\r\nX-Evil: 1"]);
        let both = HeaderSelection::new(&[AddedHeader::XKeygateClientSubject, AddedHeader::XKeygateClientSan]);
        let headers = certificate_headers(both, Some(&client));
        assert_eq!(headers.subject.unwrap(), "CN=M%C3%BCller\\, A");
        assert_eq!(headers.san.unwrap(), "URI:a%20b DNS:a%0D%0AX-Evil:%201");
        let by_default = HeaderSelection::new(&AddedHeader::DEFAULT);
        for headers in [
            certificate_headers(by_default, Some(&client)),
            certificate_headers(both, Some(&certificate("", &[]))),
            certificate_headers(both, None),
        ] {
            assert!(headers.subject.is_none() && headers.san.is_none());
        }
    }
}
