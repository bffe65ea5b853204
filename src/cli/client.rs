//! Calls of the API of a running Keygate.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CACHE_CONTROL, HeaderMap};
use reqwest::{Method, StatusCode, Url, redirect};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

const TIME_LIMIT: Duration = Duration::from_secs(10);

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
    /// Calls go below this URL, with these headers.
    pub(super) fn new(endpoint: Url, headers: HeaderMap) -> anyhow::Result<Self> {
        let builder = reqwest::Client::builder();
        // A proxy that the environment names cannot reach this machine, and need not see what stays on it.
        let builder = if is_loopback(&endpoint) { builder.no_proxy() } else { builder };
        let http = builder
            .default_headers(headers)
            .user_agent(concat!("keygate/", env!("CARGO_PKG_VERSION")))
            // A token or a key goes where it was sent, and nowhere else.
            .redirect(redirect::Policy::none())
            .build()
            .context("the HTTP client cannot be set up; see that the system's CA certificates can be read")?;
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot set up networking")?;
        Ok(Self { http, runtime, endpoint })
    }

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
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "see that --token-file or KEYGATE_ADMIN_TOKEN has a good token"
            }
            status if status.is_redirection() => "set --endpoint or KEYGATE_ENDPOINT to where it redirects",
            _ => "check --endpoint or KEYGATE_ENDPOINT",
        };
        CallError::Foreign { endpoint: self.name(), status, hint }
    }
}

fn is_loopback(endpoint: &Url) -> bool {
    let host = endpoint.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
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
    fn paths_go_below_the_endpoint_and_ids_stay_one_segment() {
        let client = Client::new("https://x/base/".parse().unwrap(), HeaderMap::new()).unwrap();
        let url = client.url(&format!("/v1/{}:revoke", segment("a/../b?c%")), &[("filter", "a=\"x y\"".into())]);
        assert_eq!(url.as_str(), "https://x/base/v1/a%2F%2E%2E%2Fb%3Fc%25:revoke?filter=a%3D%22x+y%22");
    }

    #[test]
    fn a_server_that_does_not_answer_is_told_apart_from_none() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let client = Client::new(endpoint.parse().unwrap(), HeaderMap::new()).unwrap();
        let call = || Call::get("/").limit(Duration::from_millis(100));
        assert!(matches!(client.send(call()), Err(CallError::TimedOut { .. })));
        drop(silent);
        assert!(matches!(client.send(call()), Err(CallError::NotRunning(_))));
    }

    #[test]
    fn this_machine_is_known_by_each_of_its_names() {
        for (endpoint, expected) in [
            ("http://localhost:4420", true),
            ("http://LOCALHOST", true),
            ("https://127.0.0.2", true),
            ("http://[::1]:80/x", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
            ("http://[2001:db8::1]", false),
        ] {
            assert_eq!(is_loopback(&endpoint.parse().unwrap()), expected, "{endpoint}");
        }
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
}
