//! Calls of the API in process, with the admin key of the session: each is authenticated, authorized by the table of operations, logged and
//! audited as one that comes over the network. All calls for a page together are charged as one.

use axum::Router;
use axum::body::Body;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt;

use crate::admin::context::OneCharge;
use crate::admin::server::Peer;
use crate::id::RequestId;
use crate::wire::client_ip::ADDRESS_HEADERS;
use crate::wire::problem::X_REQUEST_ID;

/// The API for one request of a browser.
#[derive(Clone)]
pub(super) struct Api {
    router: Router,
    headers: HeaderMap,
    extensions: Extensions,
}

/// A call that was not successful.
#[derive(Debug, Clone)]
pub(super) struct ApiFailure {
    pub(super) status: StatusCode,
    /// A description for people.
    pub(super) message: String,
}

impl Api {
    /// The API for the request of a browser, called with an admin key. The calls have the id and the client address of the request.
    pub(super) fn new(router: Router, parts: &Parts, key: &SecretString) -> Self {
        let mut headers = HeaderMap::new();
        for name in ADDRESS_HEADERS.map(HeaderName::from_static) {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let mut extensions = Extensions::new();
        extensions.insert(OneCharge::default());
        if let Some(peer) = parts.extensions.get::<Peer>() {
            extensions.insert(*peer);
        }
        if let Some(id) = parts.extensions.get::<RequestId>() {
            headers.insert(X_REQUEST_ID, id.value().clone());
        }
        // A text that no header can carry is no key; without a key the call is refused.
        if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", key.expose_secret())) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Self { router, headers, extensions }
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// [`ApiFailure`] with the status and the message of the API.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiFailure> {
        self.send(Method::GET, path, Body::empty()).await
    }

    /// The same with parameters; those with an empty value are left out.
    ///
    /// # Errors
    /// As for [`Api::get`].
    pub(super) fn find<'a, T: DeserializeOwned>(
        &'a self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> impl Future<Output = Result<T, ApiFailure>> + Send + use<'a, T> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters.iter().filter(|(_, value)| !value.is_empty()));
        let path = format!("{path}?{}", query.finish());
        async move { self.get(&path).await }
    }

    /// Calls an operation with a message.
    ///
    /// # Errors
    /// As for [`Api::get`].
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        message: &Value,
    ) -> Result<T, ApiFailure> {
        self.send(method, path, Body::from(message.to_string())).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T, ApiFailure> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| ApiFailure::not_found())?;
        request.headers_mut().clone_from(&self.headers);
        request.extensions_mut().clone_from(&self.extensions);
        let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = response.status();
        // The responses of the API are in memory already.
        let bytes = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let bytes = bytes.map_err(|_| ApiFailure::internal())?;
        if !status.is_success() {
            return Err(ApiFailure::read(status, &bytes));
        }
        let text = if bytes.is_empty() { &b"null"[..] } else { &bytes };
        serde_json::from_slice(text).map_err(|error| {
            tracing::error!(%error, path, "the console cannot read a response of the API");
            ApiFailure::internal()
        })
    }
}

impl ApiFailure {
    /// The error in a response.
    fn read(status: StatusCode, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = body["error"]["message"].as_str().unwrap_or("the call has failed").to_owned();
        Self { status, message }
    }

    /// The error of something that does not exist.
    pub(super) fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, message: "this does not exist".into() }
    }

    /// The error of a failure whose cause is in the log.
    pub(super) fn internal() -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: "an internal error occurred".into() }
    }

    /// Whether the admin key is not accepted any more.
    pub(super) fn is_unauthenticated(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether a person can correct the form that caused it.
    pub(super) fn is_correctable(&self) -> bool {
        self.status.is_client_error()
            && !matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::FORBIDDEN)
    }
}
