//! TLS of a listener, on rustls.
//!
//! - [`TlsAcceptor`]: the handshake of a connection, and the files of certificates, which are watched.
//! - `certificate`, `authorities`: what the files contain; `watched`: a value from files that keeps its last good state.
//! - `resolver`: the choice of a certificate by server name.
//! - `server_config`: versions, cipher suites, key exchange, resumption.
//! - `x509`: names and validity of a certificate.

mod acceptor;
mod authorities;
mod certificate;
mod error;
mod files;
mod metrics;
mod provider;
mod resolver;
mod server_config;
mod watched;
mod x509;

pub use acceptor::{PreparedTls, TlsAcceptor, TlsStream};
pub use error::{FileProblem, HandshakeError, TlsError};
pub use files::check_files;
pub use metrics::Metrics;
// For TLS to upstreams, whose files are watched in the same way.
#[cfg(feature = "gateway")]
pub(crate) use self::{
    certificate::{certificates, check_pair, private_key},
    files::report,
    watched::{Source, Watched, watch_files},
};
