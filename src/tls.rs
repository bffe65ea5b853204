//! The crypto provider of rustls. All TLS of a process uses aws-lc-rs.

/// Installs aws-lc-rs as the default crypto provider of the process. Has no effect if a default is installed already: a
/// program that embeds Keygate may choose another one.
///
/// rustls cannot choose by itself because ring is linked as well, and pingora installs ring if there is no default. So this
/// must run before the first TLS connection.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
