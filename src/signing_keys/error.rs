//! Errors of signing-key sources.

use crate::credential::JwkError;

/// An unusable source, identified by its index in the list and never by its URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signing key source {index}: {failure}")]
pub struct SigningKeySourceError {
    /// The index in the list, from 0.
    pub index: usize,
    /// The failure.
    pub failure: Failure,
}

/// Why a source is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Unknown scheme.
    #[error("does not begin with base64://, file://, https:// or http://")]
    Scheme,
    /// Invalid base64.
    #[error("is not valid base64")]
    Base64,
    /// Relative path.
    #[error("has a relative path; write file:///path")]
    RelativePath,
    /// Invalid URL.
    #[error("is not a valid URL")]
    Url,
    /// Missing or unreadable file.
    #[error("is a file that cannot be read")]
    File,
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// Larger than 1 MiB.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// Internal address.
    #[error("has an internal address; set credentials.derived_tokens.jwt.signing_keys.allow_internal to permit it")]
    Internal,
    /// A status other than 200, including redirects.
    #[error("responds with status {0}")]
    Status(u16),
    /// No response within ten seconds.
    #[error("does not respond within ten seconds")]
    Timeout,
    /// No connection, an untrusted certificate, or an incomplete response.
    #[error("cannot be reached")]
    Unreachable,
    /// The HTTP client cannot be built.
    #[error("cannot be fetched: TLS is not available, check the system's certificates")]
    NoClient,
    /// Invalid JWK set.
    #[error(transparent)]
    Jwk(#[from] JwkError),
}
