//! Warnings about files with secrets that other users can read.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use crate::config::{Config, GatewayConfig, TlsConfig};
use crate::secret_file::{SharedSecret, shared_secret};

/// The files with secrets that a configuration names, and its own files that have the HMAC secret, that others than their owner can read.
pub fn shared_secret_files(config: &Config, config_files: &[PathBuf]) -> Vec<SharedSecret> {
    let own = config_files.iter().filter(|file| has_secret(config, file)).cloned();
    own.chain(signing_keys(config)).chain(tls_keys(config)).filter_map(|file| shared_secret(&file)).collect()
}

fn has_secret(config: &Config, config_file: &Path) -> bool {
    let text = std::fs::read_to_string(config_file).unwrap_or_default();
    text.contains(config.secrets.hmac.current.expose_secret())
}

fn signing_keys(config: &Config) -> impl Iterator<Item = PathBuf> {
    let urls = &config.credentials.derived_tokens.jwt.signing_keys.urls;
    urls.iter().filter_map(|url| url.strip_prefix("file://")).map(PathBuf::from)
}

fn tls_keys(config: &Config) -> impl Iterator<Item = PathBuf> {
    let own = [&config.serve.http.tls, &config.serve.metrics.tls].into_iter().flatten().cloned();
    let gateway = config.gateway.iter().flat_map(GatewayConfig::effective_listeners);
    let gateway = gateway.filter_map(|(_, listener)| listener.tls);
    let keys = |tls: TlsConfig| tls.certificates.into_iter().map(|certificate| certificate.key);
    own.chain(gateway).flat_map(keys)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn every_shared_file_with_secrets_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let secret = "a secret of at least 32 characters";
        let mut config = Config::new("https://keys.example.com".into(), secret.to_owned().into(), "memory".into());
        let keys = file(folder.path(), "keys.json", "{}", 0o640);
        config.credentials.derived_tokens.jwt.signing_keys.urls =
            vec!["base64://e30".into(), format!("file://{}", keys.display())];
        let tls = file(folder.path(), "tls.key", "", 0o644);
        let settings = serde_json::json!({ "certificates": [{ "certificate": "/none", "key": tls }] });
        config.serve.http.tls = serde_json::from_value(settings).unwrap();
        let with_secret = file(folder.path(), "with.yaml", secret, 0o604);
        let without = file(folder.path(), "without.yaml", "secrets: {}", 0o644);
        let found = |file: &Path| -> Vec<_> {
            shared_secret_files(&config, &[file.to_owned()])
                .into_iter()
                .map(|shared| (shared.path, shared.mode))
                .collect()
        };
        assert_eq!(found(&without), [(keys.clone(), 0o640), (tls.clone(), 0o644)]);
        assert_eq!(found(&with_secret)[0], (with_secret.clone(), 0o604));
        for path in [&keys, &tls, &with_secret] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert!(found(&with_secret).is_empty());
    }
}
