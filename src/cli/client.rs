//! HTTP client of the admin API.

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

const TIMEOUT: Duration = Duration::from_secs(10);

/// A blocking client of the admin API.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    endpoint: Url,
}

/// A request to send.
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    no_cache: bool,
    timeout: Duration,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The connection was refused.
    #[error("cannot reach {0}: connection refused; check that Keygate is running, and --endpoint or KEYGATE_ENDPOINT")]
    NotRunning(String),
    /// The connection failed for another reason, or was lost.
    #[error("cannot reach {endpoint}: {cause}; check --endpoint or KEYGATE_ENDPOINT")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// The root cause.
        cause: String,
    },
    /// The call timed out.
    #[error("{endpoint} did not respond within {}s; check whether it is overloaded, then retry", timeout.as_secs())]
    TimedOut {
        /// The endpoint.
        endpoint: String,
        /// The timeout of the call.
        timeout: Duration,
    },
    /// The API returned an error.
    #[error("{message}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// The error code, such as `API_KEY_EXISTS`.
        reason: String,
        /// The error message.
        message: String,
    },
    /// The response is not one of Keygate's admin API.
    #[error("{endpoint} returned {status}, which is not a response of Keygate's admin API; {hint}")]
    UnexpectedResponse {
        /// The endpoint.
        endpoint: String,
        /// The HTTP status.
        status: StatusCode,
        /// How to correct it.
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
        Self { method, path, query: Vec::new(), body, no_cache: false, timeout: TIMEOUT }
    }

    /// Adds a query parameter unless its value is empty.
    pub(super) fn query(mut self, name: &'static str, value: String) -> Self {
        if !value.is_empty() {
            self.query.push((name, value));
        }
        self
    }

    /// Makes the server bypass its caches (`Cache-Control: no-cache`).
    pub(super) fn no_cache(mut self, yes: bool) -> Self {
        self.no_cache = yes;
        self
    }

    /// Replaces the default timeout.
    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Client {
    /// Creates a client for the API under `endpoint` that sends `headers` with every call.
    pub(super) fn new(endpoint: Url, headers: HeaderMap) -> anyhow::Result<Self> {
        let builder = reqwest::Client::builder();
        // A proxy from the environment cannot reach loopback, and must not receive local traffic.
        let builder = if is_loopback(&endpoint) { builder.no_proxy() } else { builder };
        let http = builder
            .default_headers(headers)
            .user_agent(concat!("keygate/", env!("CARGO_PKG_VERSION")))
            // A redirect must not send a token or a key to another server.
            .redirect(redirect::Policy::none())
            .build()
            .context("cannot set up the HTTP client; check that the system's CA certificates are readable")?;
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the network runtime")?;
        Ok(Self { http, runtime, endpoint })
    }

    /// Sends a call and returns the JSON of the response; `null` for an empty body.
    pub(super) fn send(&self, call: Call) -> Result<Value, CallError> {
        let timeout = call.timeout;
        let response = self.runtime.block_on(self.exchange(call));
        let (status, body) = response.map_err(|error| self.transport_error(&error, timeout))?;
        if status.is_success() {
            if body.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&body).map_err(|_| self.unexpected_response(status));
        }
        Err(api_error(status, &body).unwrap_or_else(|| self.unexpected_response(status)))
    }

    async fn exchange(&self, call: Call) -> reqwest::Result<(StatusCode, Vec<u8>)> {
        let mut request = self.http.request(call.method, self.url(&call.path, &call.query)).timeout(call.timeout);
        if call.no_cache {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        if let Some(body) = call.body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        Ok((response.status(), response.bytes().await?.to_vec()))
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

    fn transport_error(&self, error: &reqwest::Error, timeout: Duration) -> CallError {
        let endpoint = self.name();
        if error.is_timeout() {
            return CallError::TimedOut { endpoint, timeout };
        }
        match root_cause(error) {
            cause if is_connection_refused(cause) => CallError::NotRunning(endpoint),
            cause => CallError::Unreachable { endpoint, cause: cause.to_string() },
        }
    }

    fn unexpected_response(&self, status: StatusCode) -> CallError {
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "check that --key-file or KEYGATE_ADMIN_KEY has a valid admin key"
            }
            status if status.is_redirection() => "set --endpoint or KEYGATE_ENDPOINT to the redirect target",
            _ => "check --endpoint or KEYGATE_ENDPOINT",
        };
        CallError::UnexpectedResponse { endpoint: self.name(), status, hint }
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

fn is_connection_refused(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Parses the error envelope of the API.
fn api_error(status: StatusCode, body: &[u8]) -> Option<CallError> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    let reason = error.pointer("/details/0/reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(CallError::Api { status: status.as_u16(), reason, message: error.get("message")?.as_str()?.to_owned() })
}

/// Percent-encodes a path segment.
pub(super) fn segment(text: &str) -> String {
    const ENCODED: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_appended_to_the_endpoint_and_an_id_stays_one_segment() {
        let client = Client::new("https://x/base/".parse().unwrap(), HeaderMap::new()).unwrap();
        let url = client.url(&format!("/v1/{}:revoke", segment("a/../b?c%")), &[("filter", "a=\"x y\"".into())]);
        assert_eq!(url.as_str(), "https://x/base/v1/a%2F%2E%2E%2Fb%3Fc%25:revoke?filter=a%3D%22x+y%22");
    }

    #[test]
    fn timeout_and_connection_refused_are_distinct_errors() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let client = Client::new(endpoint.parse().unwrap(), HeaderMap::new()).unwrap();
        let call = || Call::get("/").timeout(Duration::from_millis(100));
        assert!(matches!(client.send(call()), Err(CallError::TimedOut { .. })));
        drop(silent);
        assert!(matches!(client.send(call()), Err(CallError::NotRunning(_))));
    }

    #[test]
    fn loopback_endpoints_are_recognized() {
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
    fn error_envelope_is_parsed() {
        let body =
            br#"{"error":{"code":404,"message":"API key not found","details":[{"reason":"API_KEY_NOT_FOUND"}]}}"#;
        let error = api_error(StatusCode::NOT_FOUND, body).unwrap();
        assert_eq!(error.to_string(), "API key not found");
        assert!(matches!(error, CallError::Api { status: 404, reason, .. } if reason == "API_KEY_NOT_FOUND"));
        for other in [&b"<html>"[..], b"{}", b"{\"error\":\"text\"}", b""] {
            assert!(api_error(StatusCode::NOT_FOUND, other).is_none());
        }
    }
}
