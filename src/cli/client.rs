//! Calls of the API of a running Keygate.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

const DEFAULT_ENDPOINT: &str = "http://localhost:4420";
const TOKEN_VARIABLE: &str = "KEYGATE_ADMIN_TOKEN";
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Which Keygate is meant, and what opens it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Talking to a running Keygate")]
pub(super) struct Connection {
    /// Where its admin API is
    #[arg(short, long, global = true, value_name = "URL", env = "KEYGATE_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    endpoint: String,
    /// A file with the bearer token for the admin API; without it, KEYGATE_ADMIN_TOKEN is used if it is set
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A connection to a Keygate. Calls wait for their answers.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    endpoint: Url,
}

/// One call, before it is made.
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    no_cache: bool,
    limit: Duration,
}

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody listens there.
    #[error("cannot reach {0}: is Keygate running? set --endpoint or KEYGATE_ENDPOINT")]
    NotRunning(String),
    /// The connection cannot be made, or it broke.
    #[error("cannot reach {endpoint}: {cause}; check --endpoint or KEYGATE_ENDPOINT")]
    Unreachable {
        /// Who was called.
        endpoint: String,
        /// The innermost cause.
        cause: String,
    },
    /// No answer in time.
    #[error("{endpoint} did not answer within {}s; see whether it is overloaded, then try again", limit.as_secs())]
    TimedOut {
        /// Who was called.
        endpoint: String,
        /// How long the answer was waited for.
        limit: Duration,
    },
    /// The API refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error's id, such as `API_KEY_EXISTS`.
        reason: String,
        /// The text for people.
        message: String,
    },
    /// Something that is no Keygate answered.
    #[error("{endpoint} answered {status} and not as Keygate does; {hint}")]
    Foreign {
        /// Who was called.
        endpoint: String,
        /// The HTTP status.
        status: StatusCode,
        /// What to do about it.
        hint: &'static str,
    },
}

impl Connection {
    /// Makes ready; the first call connects.
    pub(super) fn open(&self) -> anyhow::Result<Client> {
        let endpoint = endpoint(&self.endpoint)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = self.token()? {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut bearer = bearer.ok().context("the admin token has characters that no HTTP header can carry")?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("keygate/", env!("CARGO_PKG_VERSION")))
            // A token or a key goes where it was sent, and nowhere else.
            .redirect(redirect::Policy::none())
            .build()
            .context("the HTTP client cannot be set up; see that the system's CA certificates can be read")?;
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot set up networking")?;
        Ok(Client { http, runtime, endpoint })
    }

    fn token(&self) -> anyhow::Result<Option<SecretString>> {
        let text = match &self.token_file {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("--token-file {}", file.display()))?,
            None => std::env::var(TOKEN_VARIABLE).unwrap_or_default(),
        };
        match text.trim() {
            "" if self.token_file.is_some() => bail!("--token-file: there is no token in the file"),
            "" => Ok(None),
            token => Ok(Some(token.into())),
        }
    }
}

fn endpoint(text: &str) -> anyhow::Result<Url> {
    // A variable that is set to nothing is as good as not set.
    let text = if text.trim().is_empty() { DEFAULT_ENDPOINT } else { text.trim() };
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        bail!("--endpoint {text:?} is no http:// or https:// URL; write for example {DEFAULT_ENDPOINT}");
    };
    if !url.username().is_empty() || url.password().is_some() {
        bail!("--endpoint must not hold a user or a password; use --token-file or {TOKEN_VARIABLE}");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("--endpoint must end with its path; leave out what follows ? or #");
    }
    Ok(url)
}

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into(), None)
    }

    pub(super) fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, path.into(), Some(body))
    }

    pub(super) fn patch(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path.into(), Some(body))
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path.into(), None)
    }

    fn new(method: Method, path: String, body: Option<Value>) -> Self {
        Self { method, path, query: Vec::new(), body, no_cache: false, limit: TIME_LIMIT }
    }

    /// Adds a query parameter, unless it is empty.
    pub(super) fn query(mut self, name: &'static str, value: String) -> Self {
        if !value.is_empty() {
            self.query.push((name, value));
        }
        self
    }

    /// Asks the server to read past its cache.
    pub(super) fn no_cache(mut self, yes: bool) -> Self {
        self.no_cache = yes;
        self
    }

    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl Client {
    /// Makes a call: the answer's JSON, `null` where the answer has no body.
    pub(super) fn send(&self, call: Call) -> Result<Value, CallError> {
        let limit = call.limit;
        let (status, body) = self.runtime.block_on(self.exchange(call)).map_err(|error| self.failure(&error, limit))?;
        if status.is_success() {
            if body.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&body).map_err(|_| self.foreign(status));
        }
        Err(refusal(status, &body).unwrap_or_else(|| self.foreign(status)))
    }

    async fn exchange(&self, call: Call) -> reqwest::Result<(StatusCode, Vec<u8>)> {
        let mut request = self.http.request(call.method, self.url(&call.path, &call.query)).timeout(call.limit);
        if call.no_cache {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        if let Some(body) = call.body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.bytes().await?.to_vec()))
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}{path}", self.endpoint.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn name(&self) -> String {
        self.endpoint.as_str().trim_end_matches('/').to_owned()
    }

    fn failure(&self, error: &reqwest::Error, limit: Duration) -> CallError {
        let endpoint = self.name();
        if error.is_timeout() {
            return CallError::TimedOut { endpoint, limit };
        }
        match root_cause(error) {
            cause if is_refusal(cause) => CallError::NotRunning(endpoint),
            cause => CallError::Unreachable { endpoint, cause: cause.to_string() },
        }
    }

    fn foreign(&self, status: StatusCode) -> CallError {
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "give a token with --token-file or KEYGATE_ADMIN_TOKEN",
            status if status.is_redirection() => "set --endpoint or KEYGATE_ENDPOINT to where it redirects",
            _ => "check --endpoint or KEYGATE_ENDPOINT",
        };
        CallError::Foreign { endpoint: self.name(), status, hint }
    }
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error.source().map_or(error, root_cause)
}

fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The error inside the API's envelope.
fn refusal(status: StatusCode, body: &[u8]) -> Option<CallError> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    let reason = error.pointer("/details/0/reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(CallError::Refused { status: status.as_u16(), reason, message: error.get("message")?.as_str()?.to_owned() })
}

/// A part of a path, whatever characters it has.
pub(super) fn segment(text: &str) -> String {
    const FREE: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');
    utf8_percent_encode(text, FREE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_places_without_secrets() {
        for (text, good) in [
            ("http://localhost:4420", true),
            ("https://keys.example.com/base/", true),
            ("", true),
            ("localhost:4420", false),
            ("ftp://x", false),
            ("http://", false),
            ("http://user:password@x", false),
            ("http://x?a=b", false),
        ] {
            let read = endpoint(text);
            assert_eq!(read.is_ok(), good, "{text}");
            assert!(read.err().is_none_or(|error| !error.to_string().contains("password@")));
        }
    }

    #[test]
    fn paths_go_below_the_endpoint_and_ids_stay_one_segment() {
        let connection = Connection { endpoint: "https://x/base/".into(), token_file: None };
        let client = connection.open().unwrap();
        let url = client.url(&format!("/v1/{}:revoke", segment("a/../b?c%")), &[("filter", "a=\"x y\"".into())]);
        assert_eq!(url.as_str(), "https://x/base/v1/a%2F%2E%2E%2Fb%3Fc%25:revoke?filter=a%3D%22x+y%22");
    }

    #[test]
    fn the_envelope_is_read() {
        let body =
            br#"{"error":{"code":404,"message":"API key not found","details":[{"reason":"API_KEY_NOT_FOUND"}]}}"#;
        let error = refusal(StatusCode::NOT_FOUND, body).unwrap();
        assert_eq!(error.to_string(), "API key not found");
        assert!(matches!(error, CallError::Refused { status: 404, reason, .. } if reason == "API_KEY_NOT_FOUND"));
        for other in [&b"<html>"[..], b"{}", b"{\"error\":\"text\"}", b""] {
            assert!(refusal(StatusCode::NOT_FOUND, other).is_none());
        }
    }

    #[test]
    fn a_token_comes_from_a_file_without_its_line_end() {
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
