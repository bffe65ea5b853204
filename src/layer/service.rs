//! The service that the layer puts in front of another one.

use std::borrow::Cow;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use super::body::ResponseBody;
use super::future::ResponseFuture;
use super::kept::KeptExchange;
use super::prepared::{ClientIp, ClientIpFn, Prepared};
use super::principal::Principal;
use crate::pipeline::{Connection, Exchange, Rejection, RequestHead, ResponseForm};
use crate::wire::query::without_parameters;

/// Authorizes requests for an inner service. Made by [`AuthLayer`](super::AuthLayer).
#[derive(Clone)]
pub struct AuthService<S> {
    inner: S,
    prepared: Prepared,
    client_ip: Option<ClientIpFn>,
}

impl<S> AuthService<S> {
    pub(super) fn new(inner: S, prepared: Prepared, client_ip: Option<ClientIpFn>) -> Self {
        Self { inner, prepared, client_ip }
    }
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Send + 'static,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<S, B> {
        let client_ip = match &self.client_ip {
            Some(read) => read(request.headers(), request.extensions()),
            None => request.extensions().get::<ClientIp>().map(|client| client.0),
        };
        let mut connection = Connection::new(client_ip);
        let Prepared { snapshot, route, .. } = &self.prepared;
        let mut exchange =
            KeptExchange::new(|| Exchange::begin_on(snapshot.clone(), route.clone(), &request, &connection));
        match exchange.authorize_now(request.headers(), &mut connection) {
            Some(Ok(())) => {
                admit(&exchange, &mut request);
                ResponseFuture::inner(self.inner.call(request), exchange)
            }
            Some(Err(rejection)) => {
                let response = reject(&mut exchange, &rejection, &request);
                ResponseFuture::rejected(response, exchange)
            }
            None => {
                // The service that is ready goes with the request; its clone must be polled for readiness again.
                let next = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, next);
                let authorized = async move {
                    // The body is not borrowed while this future waits, so it need not be `Sync`.
                    let (parts, body) = request.into_parts();
                    let outcome = exchange.authorize(&parts.headers, &mut connection).await;
                    let mut request = Request::from_parts(parts, body);
                    match outcome {
                        Ok(()) => {
                            admit(&exchange, &mut request);
                            Ok((request, exchange))
                        }
                        Err(rejection) => Err((reject(&mut exchange, &rejection, &request), exchange)),
                    }
                };
                ResponseFuture::pending(Box::pin(authorized), ready)
            }
        }
    }
}

/// Removes the credential and the identity fields of a request, and adds the principal to its extensions.
fn admit<B>(exchange: &Exchange, request: &mut Request<B>) {
    exchange.strip_fields(request.headers_mut());
    if !exchange.stripped_parameters().is_empty() {
        strip_query(exchange, request.uri_mut());
    }
    match Principal::of(exchange) {
        Some(principal) => request.extensions_mut().insert(principal),
        None => request.extensions_mut().remove::<Principal>(),
    };
}

/// Removes the credential from the query. A target that cannot be written without it loses its query.
fn strip_query(exchange: &Exchange, uri: &mut Uri) {
    let Some(target) = uri.path_and_query().map(PathAndQuery::as_str) else { return };
    let Cow::Owned(stripped) = without_parameters(target, exchange.stripped_parameters()) else { return };
    let stripped = stripped.parse().or_else(|_| uri.path().parse());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = stripped.ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

fn reject<B>(exchange: &mut Exchange, rejection: &Rejection, request: &Request<B>) -> Response<Bytes> {
    exchange.read_request_id(&RequestHead::from(request));
    exchange.reject(rejection, ResponseForm::of(request.headers()))
}

impl<S: std::fmt::Debug> std::fmt::Debug for AuthService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
