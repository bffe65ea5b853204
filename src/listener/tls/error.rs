//! Errors of files and of handshakes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::server::VerifierBuilderError;

use super::x509::X509Error;

/// Why TLS cannot be used with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{setting}: {}: {problem}", path.display())]
    File {
        /// The setting that names the file, such as `gateway.listeners.0.tls.certificates.0.key`.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: FileProblem,
    },
    /// The certificates of authorities of the system cannot be read.
    #[error(
        "the certificates of authorities of this system cannot be read ({0}); check SSL_CERT_FILE and SSL_CERT_DIR"
    )]
    SystemAuthorities(io::Error),
    /// The system has no certificates of authorities, and an upstream needs them.
    #[error(
        "{setting}: is required, because this system has no certificates of authorities; set it, or install ca-certificates"
    )]
    NoAuthorities {
        /// The setting of the file that could replace them.
        setting: String,
    },
    /// TLS cannot be set up for a reason that is not in the configuration, for example without random numbers.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// The file cannot be read.
    #[error("cannot be read ({0}); check the path, and that the user of Keygate may read the file")]
    Unreadable(io::Error),
    /// The file is too large for what it must contain.
    #[error("is larger than 1 MiB; check the path")]
    TooLarge,
    /// The file has no certificate.
    #[error("contains no certificate; it must be PEM, with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The file is not PEM.
    #[error("is not valid PEM ({0}); write the file once more")]
    Pem(rustls::pki_types::pem::Error),
    /// A certificate cannot be read.
    #[error("contains a certificate that cannot be read ({0}); request the certificate once more")]
    Certificate(X509Error),
    /// The file has no private key.
    #[error("contains no private key; it must be PEM, with -----BEGIN PRIVATE KEY----- and without a passphrase")]
    NoKey,
    /// The private key cannot be used.
    #[error(
        "contains a private key that cannot be used ({0}); use ECDSA P-256 or P-384, Ed25519, or RSA with 2048 bits or more"
    )]
    Key(rustls::Error),
    /// The private key is that of another certificate.
    #[error("is not the private key of the certificate in {}; replace both files", .0.display())]
    KeyMismatch(PathBuf),
    /// The certificates cannot be used as authorities.
    #[error("contains no certificate that can be used as an authority ({0})")]
    Authorities(VerifierBuilderError),
    /// A certificate cannot be used as an authority.
    #[error("contains a certificate that cannot be used as an authority ({0}); remove it")]
    Authority(rustls::Error),
}

impl FileProblem {
    pub(crate) fn at(self, setting: &str, path: &Path) -> TlsError {
        TlsError::File { setting: setting.to_owned(), path: path.to_owned(), problem: self }
    }
}

/// Why a handshake failed. The connection must be closed; the client has received an alert with the reason where TLS has one.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The handshake took too long.
    #[error("the TLS handshake was not complete after {0:?}")]
    Timeout(Duration),
    /// The client closed the connection.
    #[error("the client closed the connection during the TLS handshake")]
    Closed,
    /// The client has no certificate, or one that is not accepted.
    #[error("the certificate of the client is not accepted: {0}")]
    ClientCertificate(ClientCertificateProblem),
    /// Client and server have no version, cipher suite or protocol in common, or the client does not speak TLS.
    #[error("the TLS handshake failed: {0}")]
    Failed(io::Error),
}

/// Why the certificate of a client is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ClientCertificateProblem {
    /// The client has none, or it is not valid.
    #[error(transparent)]
    Invalid(rustls::Error),
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(X509Error),
    /// It has expired since the session began that was resumed.
    #[error("it has expired since the resumed session began")]
    Expired,
    /// It is absent although it was verified.
    #[error("it is absent from the session")]
    Absent,
    /// Its names are longer than the limit.
    #[error("its subject and its alternative names are longer than 8 KiB")]
    TooLong,
}

impl HandshakeError {
    /// The outcome in metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Closed => "closed",
            Self::ClientCertificate(_) => "client_certificate",
            Self::Failed(_) => "failed",
        }
    }
}

impl From<ClientCertificateProblem> for HandshakeError {
    fn from(problem: ClientCertificateProblem) -> Self {
        Self::ClientCertificate(problem)
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(problem @ (rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_))) => {
                ClientCertificateProblem::Invalid(problem.clone()).into()
            }
            None if is_closed(error.kind()) => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

fn is_closed(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}
