//! One request from its head to its response. A front calls the steps in order and moves the bytes.

mod edits;
mod ending;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};

use super::authorize::{Authorization, AuthorizeRequest, PendingAuthorization};
use super::client_certificate::is_allowed;
use super::connection::Connection;
use super::cors::{CorsGrant, preflight_method};
use super::head::{RequestHead, Target};
use super::headers::{FieldEdits, requests_upgrade};
use super::live_streams::LiveStream;
use super::overload::RequestInFlight;
use super::rate_limit::RateLimitOutcome;
use super::request_metrics::RequestPath;
use super::route::Route;
use super::snapshot::Snapshot;
use super::spans::add_decision;
use super::trace::{RequestTrace, server_attributes};
use crate::config::{Auth, Upgrade};
use crate::id::{KeyId, RequestId};
use crate::traces::{TraceId, Tracer};
use crate::verifier::Verdict;
use crate::wire::Rejection;
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::fields::Fields;
use crate::wire::problem::{ResponseForm, rejection_response};

/// One request. Counted and logged by [`Exchange::finish`], or when it is dropped before that.
///
/// The steps are [`begin`](Self::begin), [`authorize`](Self::authorize), then either [`reject`](Self::reject), or
/// [`own_response`](Self::own_response), or [`request_edits`](Self::request_edits) and [`response_edits`](Self::response_edits), and at
/// the end [`finish`](Self::finish).
/// `U` is what the front keeps for the upstream of a route.
///
/// # Examples
///
/// A front that answers every request itself:
///
/// ```
/// # use std::sync::Arc;
/// # use keygate::config::{Config, GatewayConfig, OnBackendDown};
/// # use keygate::engine::Engine;
/// # use keygate::id::TenantId;
/// # use keygate::key::KeyDraft;
/// # use keygate::pipeline::{Metrics, SnapshotParts};
/// # use keygate::request_context::RequestContext;
/// # use keygate::store::MemoryStore;
/// # use secrecy::ExposeSecret;
/// use http::{HeaderValue, Request, Response, StatusCode};
/// use keygate::pipeline::{Connection, Exchange, RequestHead, ResponseForm, ResponseInfo, Snapshot};
///
/// async fn handle(snapshot: &Arc<Snapshot>, request: Request<()>, connection: &mut Connection) -> StatusCode {
///     let head = RequestHead::from(&request);
///     let mut exchange = Exchange::begin(Arc::clone(snapshot), &head, connection);
///     let response = match exchange.authorize(request.headers(), connection).await {
///         Ok(()) => {
///             let upstream_host = HeaderValue::from_static("orders.internal");
///             let mut forwarded = request.headers().clone();
///             let mut edits = exchange.request_edits(request.headers(), connection, upstream_host).expect("it is authorized");
///             edits.fields.apply(&mut forwarded);
///             assert_eq!(forwarded["x-keygate-actor-id"], "ana");
///             assert!(!forwarded.contains_key("authorization"));
///             let mut response = Response::new(bytes::Bytes::from_static(b"hello"));
///             let mut edits = exchange.response_edits(response.status(), response.headers());
///             edits.apply(response.headers_mut());
///             response
///         }
///         Err(rejection) => exchange.reject(&rejection, ResponseForm::of(request.headers())),
///     };
///     let status = response.status();
///     exchange.finish(ResponseInfo::new(status.as_u16(), response.body().len()));
///     status
/// }
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # let secret = "a secret of at least 32 characters".to_owned();
/// # let config = Config::new("https://keys.example.com".into(), secret.into(), "memory".into());
/// # let registry = prometheus::Registry::new();
/// # let engine = Engine::over(Arc::new(MemoryStore::default()), &config, &registry).unwrap();
/// # let gateway: GatewayConfig = serde_json::from_str(
/// #     r#"{ "routes": [{ "name": "orders", "path_prefix": "/orders", "upstream": "orders" }] }"#).unwrap();
/// # let parts = SnapshotParts {
/// #     config: &gateway, verifier: engine.verifier.clone(), limiter: None, auth_failures: None, on_backend_down: OnBackendDown::default(),
/// #     tenant: TenantId::NIL, revoke_with_parent: true, live_streams: None, metrics: Metrics::register(&registry).unwrap(), usage: None, tracer: None, access_log: None,
/// # };
/// # let snapshot: Arc<Snapshot> = Arc::new(Snapshot::new(parts, |_| ()));
/// # let draft = KeyDraft { name: "reports".into(), actor_id: "ana".into(), ..KeyDraft::default() };
/// # let issued = engine.lifecycle.issue(&RequestContext::system(TenantId::NIL), draft).await.unwrap();
/// # let key = issued.secret.unwrap();
/// # let key = key.expose_secret();
///
/// let mut connection = Connection::new("192.0.2.1".parse().ok());
/// let request = Request::get("/orders/1").header("x-api-key", key).body(()).unwrap();
/// assert_eq!(handle(&snapshot, request, &mut connection).await, StatusCode::OK);
/// let anonymous = Request::get("/orders/1").body(()).unwrap();
/// assert_eq!(handle(&snapshot, anonymous, &mut connection).await, StatusCode::UNAUTHORIZED);
/// # });
/// ```
pub struct Exchange<U = ()> {
    snapshot: Arc<Snapshot<U>>,
    arrived: Instant,
    client_ip: Option<IpAddr>,
    /// The peer of the socket, if that is not the client.
    proxy: Option<IpAddr>,
    /// The client's id, or a new one once it is needed.
    request_id: OnceLock<RequestId>,
    method: Method,
    version: Option<Version>,
    /// `None` if it is not logged.
    user_agent: Option<Box<str>>,
    path: ReceivedPath,
    route: Option<Arc<Route<U>>>,
    /// What the route grants to the origin of the request; `None` if the route has no CORS policy.
    cors: Option<CorsGrant>,
    /// `None` for a front whose requests are matched already.
    target: Option<Target>,
    /// Why the request is rejected whatever its credential is: no route was found, the host cannot be read, the listener requires TLS, or
    /// the route requires another client certificate.
    early_rejection: Option<Rejection>,
    /// What [`Exchange::authorize`] continues with.
    pending: Option<Box<PendingAuthorization>>,
    is_authorized: bool,
    /// Whether a record was looked up, or the request was counted elsewhere.
    is_looked_up: bool,
    verdict: Option<Verdict>,
    limits: RateLimitOutcome,
    rejection: Option<&'static str>,
    /// The key of a credential that is rejected, if it is known.
    refused_key: Option<Box<KeyId>>,
    /// The number of changes of keys when the request began.
    changes: u64,
    /// Set if the response is a live stream.
    stream: Option<Box<LiveStream>>,
    /// `None` if there are no traces.
    trace: Option<Box<RequestTrace>>,
    /// The id of the trace, for the log.
    trace_id: Option<TraceId>,
    /// Which way the request took through the gateway.
    request_path: RequestPath,
    /// `None` once the request is recorded.
    in_flight: Option<RequestInFlight>,
}

/// The result of route matching.
struct Matched<U> {
    route: Option<Arc<Route<U>>>,
    target: Option<Target>,
    unrouted: Option<Rejection>,
    path: ReceivedPath,
    request_id: Option<RequestId>,
}

/// The path as received, without the query.
enum ReceivedPath {
    /// That of the target.
    Target,
    Text(Box<str>),
    Uri(Uri),
    /// Not kept: nothing reads it.
    Unread,
}

/// The edits that turn a client's request head into what the upstream gets.
#[derive(Debug)]
pub struct RequestEdits<'e> {
    /// The path and query to request.
    pub target: &'e str,
    /// The changes to the fields.
    pub fields: FieldEdits,
}

impl<U> Exchange<U> {
    /// Begins a request: counts it as in flight, reads its id, host and path, and matches its route.
    pub fn begin<F: Fields>(snapshot: Arc<Snapshot<U>>, head: &RequestHead<'_, F>, connection: &Connection) -> Self {
        let (route, target, unrouted) = match snapshot.find_route(head) {
            Ok((route, target)) => (Some(route), Some(target), None),
            Err(rejection) => (None, None, Some(rejection)),
        };
        let has_path = target.as_ref().is_some_and(|target| target.path() == head.path);
        let path = if has_path { ReceivedPath::Target } else { ReceivedPath::Text(head.path.into()) };
        let request_id = head.request_id();
        Self::new(snapshot, head, Matched { route, target, unrouted, path, request_id }, connection)
    }

    /// Begins a request whose route is known: counts it as in flight, and reads its host. Its id is read if it is logged or traced;
    /// [`Exchange::read_request_id`] reads it later.
    pub fn begin_on<B>(
        snapshot: Arc<Snapshot<U>>,
        route: Arc<Route<U>>,
        request: &Request<B>,
        connection: &Connection,
    ) -> Self {
        let head = RequestHead::from(request);
        let unrouted = head.check_host().err();
        let is_described = snapshot.access_log.is_enabled() || snapshot.tracer.is_some();
        let request_id = if is_described { head.request_id() } else { None };
        let has_parameters = !route.credentials.parameters().is_empty();
        let is_read = is_described || has_parameters || head.authority.is_some();
        let path = if is_read { ReceivedPath::Uri(request.uri().clone()) } else { ReceivedPath::Unread };
        let matched = Matched { route: Some(route), target: None, unrouted, path, request_id };
        Self::new(snapshot, &head, matched, connection)
    }

    /// Reads the id of the request from the head that the exchange began with, unless it has an id already.
    #[doc(hidden)]
    pub fn read_request_id<F: Fields>(&self, head: &RequestHead<'_, F>) {
        if self.request_id.get().is_none()
            && let Some(id) = head.request_id()
        {
            // It has none, so it is set.
            let _ = self.request_id.set(id);
        }
    }

    fn new<F: Fields>(
        snapshot: Arc<Snapshot<U>>,
        head: &RequestHead<'_, F>,
        matched: Matched<U>,
        connection: &Connection,
    ) -> Self {
        let Matched { route, target, unrouted, path, request_id } = matched;
        let demand = route.as_ref().and_then(|route| route.client_certificate.as_ref());
        let certificate = connection.certificate.as_deref();
        let unrouted =
            unrouted.or_else(|| (!is_allowed(demand, certificate)).then_some(Rejection::ClientCertificateRequired));
        let is_upgrade_denied = route.as_ref().is_some_and(|route| route.upgrade == Upgrade::Deny);
        let unrouted = unrouted
            .or_else(|| (is_upgrade_denied && requests_upgrade(head.fields)).then_some(Rejection::UpgradeDenied));
        let arrived = Instant::now();
        let in_flight = Some(RequestInFlight::begin(&snapshot.metrics, connection.load.as_ref()));
        let trace = snapshot.tracer.as_ref().map(|tracer| Box::new(begin_trace(tracer, arrived, head, connection)));
        let is_recorded = trace.as_ref().is_some_and(|trace| trace.is_recorded());
        let user_agent = snapshot.access_log.user_agent(head.fields, is_recorded);
        let trace_id = match &trace {
            Some(trace) => Some(trace.id()),
            None => snapshot.access_log.trace_id(head.fields),
        };
        let client_ip = connection.client_ip(head.fields);
        let locations = route.as_ref().map_or(&snapshot.credentials, |route| &route.credentials);
        let is_exposed = connection.exposes_credential(locations, head.fields, head.query);
        let early_rejection = if is_exposed { Some(Rejection::TlsRequired) } else { unrouted };
        let changes = snapshot.live_streams.as_ref().map_or(0, |streams| streams.changes());
        Self {
            snapshot,
            arrived,
            client_ip,
            proxy: connection.proxy(client_ip),
            request_id: request_id.map_or_else(OnceLock::new, OnceLock::from),
            method: head.method.clone(),
            version: head.version,
            user_agent,
            path,
            cors: route.as_ref().and_then(|route| route.cors.as_ref()).map(|cors| cors.grant(head.fields)),
            route,
            target,
            early_rejection,
            pending: None,
            is_authorized: false,
            is_looked_up: false,
            verdict: None,
            limits: RateLimitOutcome::default(),
            rejection: None,
            refused_key: None,
            changes,
            stream: None,
            trace,
            trace_id,
            request_path: RequestPath::None,
            in_flight,
        }
    }

    /// Turns the exchange into that of a CORS preflight, if `head`, with which it began, is one and the route of the requested method has a
    /// CORS policy. Returns what the route grants. A preflight has no credential, and no client certificate.
    pub(super) fn match_preflight<F: Fields>(&mut self, head: &RequestHead<'_, F>) -> Option<&CorsGrant> {
        let method = &preflight_method(head.method, head.fields)?;
        let (route, target) = self.snapshot.find_route(&RequestHead { method, ..*head }).ok()?;
        let grant = route.cors.as_ref()?.grant(head.fields);
        (self.route, self.target, self.early_rejection) = (Some(route), Some(target), None);
        Some(self.cors.insert(grant))
    }

    /// Authorizes the request: credential, scopes, rate limits. `fields` are those of the head that the exchange began with; the
    /// exchange keeps no copy of the credential.
    ///
    /// Neither suspends nor allocates if the key is cached and limits are counted in this process, apart from moka's maintenance after
    /// every 64 reads of the cache.
    ///
    /// # Errors
    /// [`Rejection`], which [`Exchange::reject`] turns into the response.
    pub async fn authorize<F: Fields>(&mut self, fields: &F, connection: &mut Connection) -> Result<(), Rejection> {
        if let Some(outcome) = self.authorize_now(fields, connection) {
            return outcome;
        }
        let (Some(route), Some(pending)) = (&self.route, self.pending.take()) else {
            return Err(Rejection::RouteNotFound);
        };
        self.is_looked_up = true;
        self.check_load(false)?;
        let request = self.authorize_request(fields, connection);
        let authorizer = &self.snapshot.authorizer;
        let authorization = authorizer.authorize_later(route, &request, &mut connection.memory, *pending).await;
        self.settle(authorization)
    }

    /// Authorizes the request with what this process has in memory. `None` if a record must be looked up or the request is counted
    /// elsewhere; then [`Exchange::authorize`] continues.
    pub fn authorize_now<F: Fields>(
        &mut self,
        fields: &F,
        connection: &mut Connection,
    ) -> Option<Result<(), Rejection>> {
        if self.pending.is_some() {
            return None;
        }
        if let Some(rejection) = &self.early_rejection {
            return Some(Err(rejection.clone()));
        }
        let Some(route) = &self.route else {
            return Some(Err(Rejection::RouteNotFound));
        };
        if let Err(rejection) = self.check_load(true) {
            return Some(Err(rejection));
        }
        let request = self.authorize_request(fields, connection);
        match self.snapshot.authorizer.authorize_now(route, &request, &mut connection.memory) {
            Ok(authorization) => Some(self.settle(authorization).and_then(|()| self.shed_without_key())),
            Err(pending) => {
                self.pending = Some(pending);
                None
            }
        }
    }

    fn authorize_request<'a, F: Fields>(&'a self, fields: &'a F, connection: &Connection) -> AuthorizeRequest<'a, F> {
        AuthorizeRequest {
            method: &self.method,
            host: connection.forwarded_host(fields).or_else(|| self.requested_host()),
            query: self.query(),
            is_trusted_origin: self.cors.as_ref().is_some_and(CorsGrant::is_trusted),
            fields,
            client_ip: self.client_ip,
            arrived: self.arrived,
            is_timed: self.trace.as_ref().is_some_and(|trace| trace.is_recorded()),
        }
    }

    /// Refuses a request without a key if there are too many.
    fn shed_without_key(&self) -> Result<(), Rejection> {
        if self.verdict.is_some() { Ok(()) } else { self.check_load(false) }
    }

    fn check_load(&self, is_key_known: bool) -> Result<(), Rejection> {
        self.snapshot.overload.check(is_key_known, &self.snapshot.metrics, self.in_flight.as_ref())
    }

    /// Whether the request has a key that was in the cache. Such requests are refused last when there are too many.
    #[doc(hidden)]
    pub fn is_key_cached(&self) -> bool {
        self.verdict.is_some() && !self.is_looked_up
    }

    fn settle(&mut self, authorization: Authorization) -> Result<(), Rejection> {
        self.limits = authorization.limits;
        if let Some(trace) = &mut self.trace {
            add_decision(trace, self.arrived, &authorization.steps, &self.limits);
        }
        self.verdict = authorization.outcome.map_err(|refusal| {
            self.refused_key = refusal.key.map(Box::new);
            refusal.rejection
        })?;
        self.is_authorized = true;
        // The credential in the query is not needed after this; a redirect, for example, must not repeat it.
        if let (Some(target), Some(route)) = (&mut self.target, &self.route)
            && let Some(locations) = stripped_credentials(route)
        {
            target.strip_parameters(locations.parameters());
        }
        Ok(())
    }

    /// The route, if the request is authorized.
    pub(super) fn authorized_route(&self) -> Option<&Route<U>> {
        self.route.as_deref().filter(|_| self.is_authorized)
    }

    pub(super) fn snapshot(&self) -> &Snapshot<U> {
        &self.snapshot
    }

    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// What a route grants to the origin of the request.
    pub(super) fn cors(&self) -> Option<&CorsGrant> {
        self.cors.as_ref()
    }

    pub(super) fn trace(&self) -> Option<&RequestTrace> {
        self.trace.as_deref()
    }

    /// The result of charging the rate limits.
    pub fn limits(&self) -> &RateLimitOutcome {
        &self.limits
    }

    /// The rate-limit fields of a response that is not the upstream's: they are set on `headers`.
    pub fn insert_limit_fields(&self, headers: &mut HeaderMap) {
        self.limits.fields().insert_into(headers);
    }

    /// The response to a rejected request, in a form that its sender can read.
    pub fn reject(&mut self, rejection: &Rejection, form: ResponseForm) -> Response<Bytes> {
        self.rejection = Some(rejection.code());
        if let Some(reason) = rejection.shed_reason() {
            self.snapshot.metrics.count_shed(reason);
        }
        let locations = self.route.as_ref().map_or(&self.snapshot.credentials, |route| &route.credentials);
        let mut response = rejection_response(rejection, self.request_id(), form, locations);
        self.insert_limit_fields(response.headers_mut());
        self.insert_cors_fields(response.headers_mut());
        response
    }

    /// The CORS fields of a response that is not the upstream's.
    pub(super) fn insert_cors_fields(&self, headers: &mut HeaderMap) {
        if let Some(cors) = &self.cors {
            cors.insert_into(headers);
        }
    }

    /// When the head of the request arrived.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The request id.
    pub fn request_id(&self) -> &RequestId {
        self.request_id.get_or_init(RequestId::random)
    }

    /// Notes which way the request takes through the gateway, for the metrics.
    #[doc(hidden)]
    pub fn set_request_path(&mut self, path: RequestPath) {
        self.request_path = path;
    }

    /// The route, if one was found.
    pub fn route(&self) -> Option<&Arc<Route<U>>> {
        self.route.as_ref()
    }

    /// The verdict about the credential; `None` for an anonymous request, and before authorization.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The id of the trace, if there is one and it is recorded or logged.
    #[doc(hidden)]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    /// The client's address, if it is known.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client_ip
    }

    /// The path as received, without the query.
    pub fn received_path(&self) -> &str {
        match (&self.path, &self.target) {
            (ReceivedPath::Text(text), _) => text,
            (ReceivedPath::Uri(uri), _) => uri.path(),
            (ReceivedPath::Unread, _) => "",
            (ReceivedPath::Target, target) => target.as_ref().map(Target::path).unwrap_or_default(),
        }
    }

    /// The query, without the question mark.
    fn query(&self) -> Option<&str> {
        match (&self.target, &self.path) {
            (Some(target), _) => target.query(),
            (None, ReceivedPath::Uri(uri)) => uri.query(),
            (None, _) => None,
        }
    }

    /// The host that the client requested, with its port; `None` if only the `Host` field may have it.
    fn requested_host(&self) -> Option<&str> {
        match (&self.target, &self.path) {
            (Some(target), _) => Some(target.host()),
            (None, ReceivedPath::Uri(uri)) => uri.authority().map(http::uri::Authority::as_str),
            (None, _) => None,
        }
    }
}

/// Begins the trace of a request, and describes what only its head has.
fn begin_trace<F: Fields>(
    tracer: &Arc<Tracer>,
    arrived: Instant,
    head: &RequestHead<'_, F>,
    connection: &Connection,
) -> RequestTrace {
    let mut trace = RequestTrace::begin(tracer, head.fields, arrived);
    trace.describe(|attributes| {
        attributes.push(("url.scheme", connection.scheme(head.fields).as_str().into()));
        server_attributes(attributes, head.host().unwrap_or_default());
    });
    trace
}

/// The locations that are stripped. On a route without authentication credentials belong to the upstream.
pub(super) fn stripped_credentials<U>(route: &Route<U>) -> Option<&Arc<CredentialLocations>> {
    (route.auth != Auth::None).then_some(&route.credentials)
}

#[cfg(test)]
mod tests;
