//! Endpoint and key of the admin API.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::client::Client;

const DEFAULT_ENDPOINT: &str = "http://localhost:4420";
/// The variables with the admin key. The second one is an older name.
const KEY_VARIABLES: [&str; 2] = ["KEYGATE_ADMIN_KEY", "KEYGATE_ADMIN_TOKEN"];
const KEY_HELP: &str = "File with the admin key [env: KEYGATE_ADMIN_KEY, the key itself]";

/// Endpoint and key of the admin API.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection to the admin API")]
pub(super) struct Connection {
    /// URL of the admin API
    #[arg(short, long, global = true, value_name = "URL", env = "KEYGATE_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    endpoint: String,
    // The key itself is never an argument: other users of the host can read these.
    #[arg(long, global = true, value_name = "FILE", alias = "token-file", help = KEY_HELP)]
    key_file: Option<PathBuf>,
}

impl Connection {
    /// Creates a client. The first call opens the connection.
    pub(super) fn open(&self) -> anyhow::Result<Client> {
        let endpoint = endpoint(&self.endpoint)?;
        let mut headers = HeaderMap::new();
        if let Some(key) = self.key()? {
            let bearer = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()));
            let mut bearer =
                bearer.ok().context("the admin key has characters that are not allowed in an HTTP header")?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Client::new(endpoint, headers)
    }

    /// The URL as it was given.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn key(&self) -> anyhow::Result<Option<SecretString>> {
        let set = |name| std::env::var(name).ok().filter(|key| !key.trim().is_empty());
        match &self.key_file {
            Some(file) => read_key_file("--key-file", file).map(Some),
            None => Ok(KEY_VARIABLES.into_iter().find_map(set).map(|key| key.trim().into())),
        }
    }
}

/// Reads a file with a key; `option` names the file in errors.
pub(super) fn read_key_file(option: &str, file: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{option} {}", file.display()))?;
    match text.trim() {
        "" => bail!("{option}: no key in the file"),
        key => Ok(key.into()),
    }
}

fn endpoint(text: &str) -> anyhow::Result<Url> {
    // An empty variable counts as unset.
    let text = if text.trim().is_empty() { DEFAULT_ENDPOINT } else { text.trim() };
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        bail!("--endpoint {text:?} is not an http:// or https:// URL; use for example {DEFAULT_ENDPOINT}");
    };
    if !url.username().is_empty() || url.password().is_some() {
        bail!("--endpoint must not have a user name or password; use --key-file or KEYGATE_ADMIN_KEY");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("--endpoint must not have a query or a fragment");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_must_be_an_http_url_without_credentials_or_query() {
        for (text, valid) in [
            ("http://localhost:4420", true),
            ("https://keys.example.com/base/", true),
            ("", true),
            ("localhost:4420", false),
            ("ftp://x", false),
            ("http://", false),
            ("http://user:password@x", false),
            ("http://x?a=b", false),
        ] {
            let parsed = endpoint(text);
            assert_eq!(parsed.is_ok(), valid, "{text}");
            assert!(parsed.err().is_none_or(|error| !error.to_string().contains("password@")));
        }
    }

    #[test]
    fn key_from_a_file_is_trimmed_and_validated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " token\r\n").unwrap();
        let connection = Connection { endpoint: String::new(), key_file: Some(file.path().to_owned()) };
        assert_eq!(connection.key().unwrap().unwrap().expose_secret(), "token");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(connection.open().is_err());
        std::fs::write(file.path(), "to\nken").unwrap();
        let text = connection.open().err().unwrap().to_string();
        assert!(text.contains("admin key") && !text.contains("ken\""), "{text}");
    }
}
