//! The layer, and what it requires of requests.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::{Extensions, HeaderMap};
use tower_layer::Layer;

use super::prepared::{ClientIpFn, Prepared};
use super::service::AuthService;
use crate::config::{Auth, CredentialLocation, RouteConfig};
use crate::engine::RunningEngine;

/// Wraps services so that only authorized requests reach them.
///
/// By default a valid credential is required. Clones share the engine; each may require something else, for example for one route of an
/// axum router. Apply one layer to a request: the first one removes the credential.
#[derive(Clone)]
pub struct AuthLayer {
    engine: RunningEngine,
    route: RouteConfig,
    client_ip: Option<ClientIpFn>,
    /// Built when the first service is wrapped.
    prepared: Arc<OnceLock<Prepared>>,
}

impl AuthLayer {
    /// A layer that requires a valid credential.
    pub fn new(engine: &RunningEngine) -> Self {
        let route = RouteConfig { name: "layer".into(), ..RouteConfig::default() };
        Self { engine: engine.clone(), route, client_ip: None, prepared: Arc::default() }
    }

    /// The name in metrics and access-log lines; by default `layer`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with_route(|route| route.name = name.into())
    }

    /// Lets requests without a credential pass, without a [`Principal`](super::Principal). A credential that is present must be valid.
    #[must_use]
    pub fn optional(self) -> Self {
        self.with_route(|route| route.auth = Auth::Optional)
    }

    /// Does not look at credentials, which stay in the request: `auth: none` of the gateway. Identity fields of the client are removed, and
    /// limits are charged by address.
    #[must_use]
    pub fn without_auth(self) -> Self {
        self.with_route(|route| route.auth = Auth::None)
    }

    /// Where requests carry their credential, instead of `gateway.credentials`: by default `Authorization: Bearer` and `X-API-Key`.
    ///
    /// # Panics
    /// When a location is not usable: a name that is not valid, or two entries that contradict each other.
    #[must_use]
    pub fn credentials(self, locations: impl IntoIterator<Item = CredentialLocation>) -> Self {
        let locations: Vec<_> = locations.into_iter().collect();
        if let Err(error) = CredentialLocation::check("credentials", &locations) {
            panic!("the locations of credentials are not usable: {error}");
        }
        self.with_route(|route| route.credentials = Some(locations))
    }

    /// Requires scopes of the credential, all of them, in addition to those that are required already.
    #[must_use]
    pub fn require_scopes<S: Into<String>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.with_route(|route| route.scopes.extend(scopes.into_iter().map(Into::into)))
    }

    /// Accepts only derived tokens that name this audience, or one of those that were added before. Keys name no audience.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.with_route(|route| route.audiences.push(audience.into()))
    }

    /// Charges requests to a limit of `gateway.limits`, in addition to the limit of the key. A limit is counted once for all layers that
    /// name it.
    ///
    /// # Panics
    /// When the engine's configuration has no limit of this name; see [`EngineBuilder::limit`](crate::engine::EngineBuilder::limit).
    #[must_use]
    pub fn limit(self, name: impl Into<String>) -> Self {
        let name = name.into();
        let is_known = self.engine.config().gateway.as_ref().is_some_and(|gateway| gateway.limits.contains_key(&name));
        assert!(is_known, "there is no limit {name:?}; add it with EngineBuilder::limit or in gateway.limits");
        self.with_route(|route| route.limits.push(name))
    }

    /// How many requests of each limit's quota one request uses; by default 1. With 0, requests are not charged.
    #[must_use]
    pub fn cost(self, cost: u64) -> Self {
        self.with_route(|route| route.cost = cost)
    }

    /// Reads the client's address from the fields and extensions of a request, for keys that may be used only from certain addresses and
    /// for limits that count by address. Trust a field such as `X-Forwarded-For` only if a proxy of yours sets it.
    ///
    /// Without it, the address is that of the extension [`ClientIp`](super::ClientIp); without that it is unknown, and keys that are bound to addresses are
    /// rejected.
    #[must_use]
    pub fn client_ip(self, read: impl Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        Self { client_ip: Some(Arc::new(read)), ..self }
    }

    fn with_route(mut self, change: impl FnOnce(&mut RouteConfig)) -> Self {
        change(&mut self.route);
        Self { prepared: Arc::default(), ..self }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        let prepared = self.prepared.get_or_init(|| Prepared::new(&self.engine, &self.route)).clone();
        AuthService::new(inner, prepared, self.client_ip.clone())
    }
}

impl std::fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthLayer").field("route", &self.route).finish_non_exhaustive()
    }
}
