//! Authorization of a request on its route: extract the credential, verify it, check scopes, charge the rate limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::rate_limit::{Caller, RateLimitOutcome, RouteLimits};
use super::route::Route;
use crate::config::{Auth, OnBackendDown};
use crate::id::TenantId;
use crate::verifier::{CachePolicy, ConnectionMemory, Denial, Presented, Verdict, Verifier};
use crate::wire::Rejection;
use crate::wire::extract::extract;
use crate::wire::fields::Fields;

/// Authorizes requests of one tenant.
pub struct Authorizer {
    verifier: Arc<Verifier>,
    tenant: TenantId,
    revoke_with_parent: bool,
}

/// The parts of a request that authorization reads.
#[derive(Debug)]
pub struct AuthorizeRequest<'a, F> {
    /// The fields of the request head.
    pub fields: &'a F,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// When the head arrived. Cached records are judged fresh or stale as of then.
    pub arrived: Instant,
}

/// The result of authorization.
#[derive(Debug)]
pub struct Authorization {
    /// The verdict, `None` for an anonymous request that may pass; or why the request is rejected.
    pub outcome: Result<Option<Verdict>, Rejection>,
    /// The result of charging the rate limits, if the request got that far.
    pub limits: RateLimitOutcome,
}

impl Authorizer {
    /// An authorizer for a tenant. With `revoke_with_parent`, derived tokens of revoked keys are denied.
    pub fn new(verifier: Arc<Verifier>, tenant: TenantId, revoke_with_parent: bool) -> Self {
        Self { verifier, tenant, revoke_with_parent }
    }

    /// Authorizes a request on a route. Neither suspends nor allocates if the key is cached and limits are counted in this process, apart
    /// from moka's maintenance after every 64 reads of the cache.
    pub async fn authorize<U, F: Fields>(
        &self,
        route: &Route<U>,
        request: &AuthorizeRequest<'_, F>,
        memory: &mut ConnectionMemory,
    ) -> Authorization {
        let verdict = match self.authenticate(route, request, memory).await {
            Ok(verdict) => verdict,
            Err(rejection) => {
                return Authorization { outcome: Err(rejection), limits: RateLimitOutcome::default() };
            }
        };
        let mut limits = match &route.limits {
            Some(limits) => self.charge(limits, verdict.as_ref(), request, memory).await,
            None => RateLimitOutcome::default(),
        };
        let outcome = limits.rejection.take().map_or(Ok(verdict), Err);
        Authorization { outcome, limits }
    }

    async fn authenticate<U, F: Fields>(
        &self,
        route: &Route<U>,
        request: &AuthorizeRequest<'_, F>,
        memory: &mut ConnectionMemory,
    ) -> Result<Option<Verdict>, Rejection> {
        if route.auth == Auth::None {
            return Ok(None);
        }
        let Some(credential) = extract(request.fields)? else {
            return if route.auth == Auth::Optional { Ok(None) } else { Err(Rejection::CredentialMissing) };
        };
        let presented = Presented {
            tenant: self.tenant,
            credential,
            client_ip: request.client_ip,
            arrived: request.arrived,
            audiences: &route.audiences,
            cache: CachePolicy::default(),
            lookup_charge: request.client_ip,
            revoke_with_parent: self.revoke_with_parent,
        };
        let verdict = self.verifier.verify_on(&presented, memory).await.outcome?;
        if verdict.scopes().contains_all(&route.scopes) {
            Ok(Some(verdict))
        } else {
            Err(Rejection::ScopeInsufficient { required: Arc::clone(&route.scopes) })
        }
    }

    async fn charge<F>(
        &self,
        limits: &RouteLimits,
        verdict: Option<&Verdict>,
        request: &AuthorizeRequest<'_, F>,
        memory: &mut ConnectionMemory,
    ) -> RateLimitOutcome {
        let key_limit = match verdict {
            Some(verdict) => self.verifier.rate_limit(verdict, request.arrived, memory).await,
            None => Ok(None),
        };
        let key_limit = match key_limit {
            Ok(limit) => limit,
            // The limit of a token's parent cannot be read. Only `open` permits to go on without it.
            Err(error) => match limits.on_backend_down() {
                OnBackendDown::Open => None,
                OnBackendDown::Local | OnBackendDown::Closed => {
                    return RateLimitOutcome::unavailable(Denial::unavailable(&error).into());
                }
            },
        };
        limits.charge(&Caller { tenant: self.tenant, verdict, key_limit, client_ip: request.client_ip }).await
    }
}
