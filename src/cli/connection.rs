//! Endpoint and token of the admin API.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::client::Client;

const DEFAULT_ENDPOINT: &str = "http://localhost:4420";
const TOKEN_VARIABLE: &str = "KEYGATE_ADMIN_TOKEN";
const TOKEN_HELP: &str = "File with the bearer token for the admin API [env: KEYGATE_ADMIN_TOKEN, the token itself]";

/// Endpoint and token of the admin API.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection to the admin API")]
pub(super) struct Connection {
    /// URL of the admin API
    #[arg(short, long, global = true, value_name = "URL", env = "KEYGATE_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    endpoint: String,
    #[arg(long, global = true, value_name = "FILE", help = TOKEN_HELP)]
    token_file: Option<PathBuf>,
}

impl Connection {
    /// Creates a client. The first call opens the connection.
    pub(super) fn open(&self) -> anyhow::Result<Client> {
        let endpoint = endpoint(&self.endpoint)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = self.token()? {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut bearer =
                bearer.ok().context("the admin token has characters that are not allowed in an HTTP header")?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Client::new(endpoint, headers)
    }

    fn token(&self) -> anyhow::Result<Option<SecretString>> {
        let text = match &self.token_file {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("--token-file {}", file.display()))?,
            None => std::env::var(TOKEN_VARIABLE).unwrap_or_default(),
        };
        match text.trim() {
            "" if self.token_file.is_some() => bail!("--token-file: no token in the file"),
            "" => Ok(None),
            token => Ok(Some(token.into())),
        }
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
        bail!("--endpoint must not have a user name or password; use --token-file or {TOKEN_VARIABLE}");
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
    fn token_from_a_file_is_trimmed_and_validated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " token\r\n").unwrap();
        let connection = Connection { endpoint: String::new(), token_file: Some(file.path().to_owned()) };
        assert_eq!(connection.token().unwrap().unwrap().expose_secret(), "token");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(connection.open().is_err());
        std::fs::write(file.path(), "to\nken").unwrap();
        let text = connection.open().err().unwrap().to_string();
        assert!(text.contains("admin token") && !text.contains("ken\""), "{text}");
    }
}
