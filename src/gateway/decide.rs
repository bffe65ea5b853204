//! May this request pass, and by which route? Works on plain values: any server can call it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::{HeaderMap, Method, Uri};

use super::limit::{Caller, Charged, Limits};
use super::path::NormalPath;
use super::route::{Route, RouteTable};
use crate::config::Auth;
use crate::id::TenantId;
use crate::verifier::{CachePolicy, ConnectionMemory, Denial, Presented, Verdict, Verifier};
use crate::wire::extract::extract;

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The fields.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// When it came.
    pub arrived: Instant,
}

/// A request that may pass.
#[derive(Debug)]
pub struct Admitted {
    /// By which route.
    pub route: Arc<Route>,
    /// Who asks; nobody in particular when absent.
    pub verdict: Option<Verdict>,
    /// The path and query to forward.
    pub target: String,
}

/// A decision, with what is known for the log even when it is a refusal.
#[derive(Debug)]
pub struct Decision {
    /// Whether the request may pass.
    pub outcome: Result<Admitted, Denial>,
    /// The route, if one took the request.
    pub route: Option<Arc<Route>>,
    /// What limits said, if the request came so far.
    pub charged: Charged,
}

/// Judges requests.
pub struct Decider {
    routes: RouteTable,
    verifier: Arc<Verifier>,
    limits: Option<Limits>,
    tenant: TenantId,
    revoke_with_parent: bool,
}

impl Decider {
    /// A decider over `routes`, for one tenant. With `revoke_with_parent` a token ends when its parent is revoked; without
    /// `limits` nothing is counted.
    pub fn new(
        routes: RouteTable,
        verifier: Arc<Verifier>,
        limits: Option<Limits>,
        tenant: TenantId,
        revoke_with_parent: bool,
    ) -> Self {
        Self { routes, verifier, limits, tenant, revoke_with_parent }
    }

    /// Judges a request: route, credential, scopes, limits. `connection` is what its connection remembers.
    pub async fn decide(&self, head: Head<'_>, connection: &mut ConnectionMemory) -> Decision {
        let (route, target) = match self.route(head) {
            Ok(found) => found,
            Err(denial) => return Decision { outcome: Err(denial), route: None, charged: Charged::default() },
        };
        let taken = Some(Arc::clone(&route));
        let verdict = match self.authorize(&route, head, connection).await {
            Ok(verdict) => verdict,
            Err(denial) => return Decision { outcome: Err(denial), route: taken, charged: Charged::default() },
        };
        let mut charged = self.charge(&route, verdict.as_ref(), head, connection).await;
        let outcome = match charged.denial.take() {
            Some(denial) => Err(denial),
            None => Ok(Admitted { route, verdict, target }),
        };
        Decision { outcome, route: taken, charged }
    }

    async fn charge(
        &self,
        route: &Route,
        verdict: Option<&Verdict>,
        head: Head<'_>,
        connection: &mut ConnectionMemory,
    ) -> Charged {
        let Some(limits) = &self.limits else {
            return Charged::default();
        };
        let own = match verdict {
            // An error must follow `rate_limit.on_backend_down`; until then it does not limit.
            Some(verdict) => self.verifier.rate_limit(verdict, head.arrived, connection).await.unwrap_or_default(),
            None => None,
        };
        limits.charge(route, &Caller { tenant: self.tenant, verdict, own, peer: head.peer }).await
    }

    fn route(&self, head: Head<'_>) -> Result<(Arc<Route>, String), Denial> {
        let host = host(head.uri, head.headers)?;
        let path = NormalPath::parse(head.uri.path()).ok_or(Denial::RouteNotFound)?;
        let route = self.routes.find(host, head.method, &path).ok_or(Denial::RouteNotFound)?;
        let target = match head.uri.query() {
            Some(query) => [path.as_str(), "?", query].concat(),
            None => path.as_str().to_owned(),
        };
        Ok((Arc::clone(route), target))
    }

    async fn authorize(
        &self,
        route: &Route,
        head: Head<'_>,
        connection: &mut ConnectionMemory,
    ) -> Result<Option<Verdict>, Denial> {
        if route.auth == Auth::None {
            return Ok(None);
        }
        let Some(credential) = extract(head.headers)? else {
            return if route.auth == Auth::Optional { Ok(None) } else { Err(Denial::CredentialMissing) };
        };
        let presented = Presented {
            tenant: self.tenant,
            credential,
            client_ip: head.peer,
            arrived: head.arrived,
            audiences: &route.audiences,
            cache: CachePolicy::default(),
            lookup_charge: head.peer,
            revoke_with_parent: self.revoke_with_parent,
        };
        let verdict = self.verifier.verify_on(&presented, connection).await.outcome?;
        if verdict.scopes().contains_all(&route.scopes) {
            Ok(Some(verdict))
        } else {
            Err(Denial::ScopeInsufficient { required: Arc::clone(&route.scopes) })
        }
    }
}

/// The host that the request names: in its target, else in its one `Host` field (RFC 9112 section 3.2).
pub(super) fn host<'h>(uri: &'h Uri, headers: &'h HeaderMap) -> Result<&'h str, Denial> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Denial::RequestInvalid("The request has more than one Host field."));
    }
    if let Some(authority) = uri.authority() {
        return Ok(authority.as_str());
    }
    match field.map(http::HeaderValue::to_str) {
        Some(Ok(host)) => Ok(host),
        Some(Err(_)) => Err(Denial::RequestInvalid("The request's Host field is not readable.")),
        None => Ok(""),
    }
}
