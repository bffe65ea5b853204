//! TLS clients.

use std::sync::Arc;

use keygate::connection::{ClientCertificate, TlsInfo};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, SignatureScheme,
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::server::Server;
use crate::support::authority::{Authority, Pair};

/// A client that trusts one authority. It resumes sessions.
#[derive(Clone)]
pub(super) struct Client {
    roots: Arc<RootCertStore>,
    certificate: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    tls12: bool,
    config: Arc<ClientConfig>,
}

/// A connection after the handshake.
#[derive(Debug)]
pub(super) struct Connection(BufReader<TlsStream<TcpStream>>);

/// Accepts every certificate of a server.
#[derive(Debug)]
struct AnyServer(CryptoProvider);

impl Client {
    pub(super) fn new(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&authority.file).unwrap()).unwrap();
        Self::build(Arc::new(roots), None, false)
    }

    fn build(
        roots: Arc<RootCertStore>,
        certificate: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
        tls12: bool,
    ) -> Self {
        let versions = if tls12 { &[&TLS12] } else { &[&TLS13] };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&roots));
        let config = match &certificate {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        Self { roots, certificate, tls12, config: Arc::new(config) }
    }

    /// A client that speaks TLS 1.2 only.
    pub(super) fn tls12(&self) -> Self {
        Self::build(Arc::clone(&self.roots), self.certificate.clone(), true)
    }

    /// A client that presents a certificate, also if no authority that the server names has issued it.
    pub(super) fn with_certificate(&self, pair: &Pair) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        Self::build(Arc::clone(&self.roots), Some((chain, Arc::new(key))), self.tls12)
    }

    pub(super) fn offering(&self, protocols: &[&str]) -> Self {
        self.changed(|config| config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect())
    }

    pub(super) fn without_resumption(&self) -> Self {
        self.changed(|config| config.resumption = Resumption::disabled())
    }

    /// A client that does not check the certificate of the server.
    pub(super) fn unverified(&self) -> Self {
        self.changed(|config| config.dangerous().set_certificate_verifier(Arc::new(AnyServer(provider()))))
    }

    fn changed(&self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = (*self.config).clone();
        change(&mut config);
        Self { config: Arc::new(config), ..self.clone() }
    }

    pub(super) async fn connect(&self, server: &Server, name: &str) -> Result<Connection, String> {
        let stream = TcpStream::connect(server.address).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await;
        stream.map(|stream| Connection(BufReader::new(stream))).map_err(|error| format!("{error:?}"))
    }

    /// Whether the server serves a connection. With TLS 1.3 the handshake is complete for a client before the server has verified its
    /// certificate.
    pub(super) async fn is_served(&self, server: &Server) -> bool {
        let Ok(mut connection) = self.connect(server, "localhost").await else { return false };
        let mut line = String::new();
        connection.0.read_line(&mut line).await.is_ok_and(|length| length > 0)
    }
}

impl Connection {
    fn tls(&self) -> &rustls::ClientConnection {
        self.0.get_ref().get_ref().1
    }

    pub(super) fn version(&self) -> ProtocolVersion {
        self.tls().protocol_version().unwrap()
    }

    pub(super) fn key_exchange(&self) -> NamedGroup {
        self.tls().negotiated_key_exchange_group().unwrap().name()
    }

    pub(super) fn handshake_kind(&self) -> HandshakeKind {
        self.tls().handshake_kind().unwrap()
    }

    /// The DNS names of the server's certificate.
    pub(super) fn server_names(&self) -> Vec<String> {
        let certificate = Certificate::from_der(&self.tls().peer_certificates().unwrap()[0]).unwrap();
        let (_, names): (bool, SubjectAltName) = certificate.tbs_certificate().get_extension().unwrap().unwrap();
        let name = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => format!("DNS:{}", name.as_str().to_ascii_lowercase()),
            other => panic!("{other:?}"),
        };
        names.0.iter().map(name).collect()
    }

    /// What the server knows of the connection: the first line that it sends.
    pub(super) async fn info(&mut self) -> TlsInfo {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let info: Value = serde_json::from_str(&line).unwrap();
        let text = |value: &Value| value.as_str().map(Box::from);
        let certificate = &info["client_certificate"];
        TlsInfo {
            server_name: text(&info["server_name"]),
            http2: info["http2"].as_bool().unwrap(),
            client_certificate: text(&certificate["subject"]).map(|subject| ClientCertificate {
                subject,
                san: certificate["san"].as_array().unwrap().iter().filter_map(text).collect(),
            }),
        }
    }

    /// Sends a text and waits for it to come back.
    pub(super) async fn echo(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; text.len()];
        self.0.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, text.as_bytes());
    }
}

pub(super) fn names(san: &[Box<str>]) -> Vec<&str> {
    san.iter().map(|name| &**name).collect()
}

/// Sends a `ClientHello` of a version without the extension `supported_versions`, and returns the name of the alert that is the answer
/// (RFC 5246 section 7.2).
pub(super) async fn refusal(server: &Server, version: u16) -> &'static str {
    let [high, low] = version.to_be_bytes();
    // Empty session id, TLS_RSA_WITH_AES_128_CBC_SHA, no compression; signature_algorithms, without which the alert is another one.
    let (suites, extensions) = ([0, 0, 2, 0, 0x2f, 1, 0], [0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let random = [7; 32];
    let body = [&[high, low][..], &random, &suites, &extensions].concat();
    let length = u8::try_from(body.len()).unwrap();
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).await.unwrap();
    match alert[..] {
        [21, _, _, 0, 2, 2, 70] => "protocol_version",
        _ => panic!("{alert:?}"),
    }
}

fn provider() -> CryptoProvider {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    provider
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
