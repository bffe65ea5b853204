//! Authorization of a request on its route: extract the credential, verify it, check scopes, charge the rate limits.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::Method;

use super::auth_failures::{AuthFailureThrottle, Delay};
use super::cross_origin::is_cross_origin_write;
use super::rate_limit::{Caller, RateLimitOutcome, RouteLimits};
use super::route::Route;
use super::steps::{Steps, timed};
use crate::config::{Auth, OnBackendDown};
use crate::id::{KeyId, TenantId};
use crate::verifier::{
    CachePolicy, ConnectionMemory, Denial, PendingVerification, Presented, Verdict, Verification, Verifier,
};
use crate::wire::Rejection;
use crate::wire::extract::extract;
use crate::wire::fields::Fields;

/// Authorizes requests of one tenant.
pub struct Authorizer {
    pub(super) verifier: Arc<Verifier>,
    pub(super) tenant: TenantId,
    pub(super) revoke_with_parent: bool,
    auth_failures: Option<Arc<AuthFailureThrottle>>,
}

/// The parts of a request that authorization reads.
#[derive(Debug)]
pub struct AuthorizeRequest<'a, F> {
    /// The method.
    pub method: &'a Method,
    /// The host that the client requested, with its port; `None` if it is in the `Host` field.
    pub host: Option<&'a str>,
    /// The query, without the question mark.
    pub query: Option<&'a str>,
    /// Whether the request is of an origin that may send the credentials that browsers add on their own.
    pub is_trusted_origin: bool,
    /// The fields of the request head.
    pub fields: &'a F,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// When the head arrived. Cached records are judged fresh or stale as of then.
    pub arrived: Instant,
    /// Whether the times of steps that wait are taken.
    pub is_timed: bool,
}

/// The result of authorization.
#[derive(Debug)]
pub struct Authorization {
    /// The verdict, `None` for an anonymous request that may pass; or why the request is rejected.
    pub outcome: Result<Option<Verdict>, Box<Refusal>>,
    /// The result of charging the rate limits, if the request got that far.
    pub limits: RateLimitOutcome,
    /// How the result was reached.
    pub steps: Steps,
}

/// Why a request is rejected, and the key of its credential.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why the request is rejected.
    pub rejection: Rejection,
    /// `None` if the request has no credential, or that of no key.
    pub key: Option<KeyId>,
}

/// An authorization that needs a record or a counter which this process does not have in memory, or whose rejection is delayed.
pub enum PendingAuthorization {
    /// The credential is being verified.
    Verification(PendingVerification),
    /// The limits must be charged.
    Charge(Option<Verdict>, Steps),
    /// The response to a rejected credential is delayed.
    Delay(Box<Refusal>, Delay, Steps),
}

impl Authorization {
    fn charged(verdict: Option<Verdict>, mut limits: RateLimitOutcome, steps: Steps) -> Self {
        let outcome = match limits.rejection.take() {
            None => Ok(verdict),
            Some(rejection) => Err(Box::new(Refusal { rejection, key: verdict.map(|verdict| verdict.key_id()) })),
        };
        Self { outcome, limits, steps }
    }

    /// Of a request on a route without limits, or that is rejected before they are charged.
    fn uncharged(outcome: Result<Option<Verdict>, Box<Refusal>>, steps: Steps) -> Self {
        Self { outcome, limits: RateLimitOutcome::default(), steps }
    }
}

impl From<Rejection> for Box<Refusal> {
    /// A rejection of a request whose key is not known.
    fn from(rejection: Rejection) -> Self {
        Self::new(Refusal { rejection, key: None })
    }
}

impl Authorizer {
    /// An authorizer for a tenant. With `revoke_with_parent`, derived tokens of revoked keys are denied.
    pub fn new(verifier: Arc<Verifier>, tenant: TenantId, revoke_with_parent: bool) -> Self {
        Self { verifier, tenant, revoke_with_parent, auth_failures: None }
    }

    /// Throttles addresses that repeatedly present rejected credentials.
    #[must_use]
    pub fn throttled(self, auth_failures: Option<Arc<AuthFailureThrottle>>) -> Self {
        Self { auth_failures, ..self }
    }

    /// Authorizes a request on a route. Neither suspends nor allocates if the key is cached and limits are counted in this process, apart
    /// from moka's maintenance after every 64 reads of the cache.
    pub async fn authorize<U, F: Fields>(
        &self,
        route: &Route<U>,
        request: &AuthorizeRequest<'_, F>,
        memory: &mut ConnectionMemory,
    ) -> Authorization {
        match self.authorize_now(route, request, memory) {
            Ok(authorization) => authorization,
            Err(pending) => self.authorize_later(route, request, memory, *pending).await,
        }
    }

    /// Authorizes a request with what this process has in memory.
    ///
    /// # Errors
    /// What [`Authorizer::authorize_later`] continues with, if a record must be looked up or the request is counted elsewhere.
    pub fn authorize_now<U, F: Fields>(
        &self,
        route: &Route<U>,
        request: &AuthorizeRequest<'_, F>,
        memory: &mut ConnectionMemory,
    ) -> Result<Authorization, Box<PendingAuthorization>> {
        let mut steps = Steps::default();
        let verdict = match credential(route, request) {
            Ok(Some(credential)) => {
                let presented = self.presented(route, request, &credential);
                match self.check_auth_failures(&presented, memory) {
                    Ok(()) => {
                        let verification = self.verifier.verify_now(&presented, memory);
                        let verification =
                            verification.map_err(|pending| Box::new(PendingAuthorization::Verification(pending)))?;
                        steps = Steps::of(&verification);
                        verdict(verification, route).map(Some)
                    }
                    Err(rejection) => Err(rejection.into()),
                }
            }
            Ok(None) => Ok(None),
            Err(rejection) => Err(rejection.into()),
        };
        if let Err(refusal) = &verdict
            && let Some(delay) = self.count_auth_failure(refusal, request.client_ip)
        {
            return Err(Box::new(PendingAuthorization::Delay(refusal.clone(), delay, steps)));
        }
        match (verdict, &route.limits) {
            (Ok(verdict), Some(limits)) => match self.charge_now(limits, verdict.as_ref(), request, memory) {
                Some(limits) => Ok(Authorization::charged(verdict, limits, steps)),
                None => Err(Box::new(PendingAuthorization::Charge(verdict, steps))),
            },
            (outcome, _) => Ok(Authorization::uncharged(outcome, steps)),
        }
    }

    /// Completes an authorization that [`Authorizer::authorize_now`] began for the same request.
    pub async fn authorize_later<U, F: Fields>(
        &self,
        route: &Route<U>,
        request: &AuthorizeRequest<'_, F>,
        memory: &mut ConnectionMemory,
        pending: PendingAuthorization,
    ) -> Authorization {
        let mut steps = Steps::default();
        let verdict = match pending {
            PendingAuthorization::Charge(verdict, taken) => {
                steps = taken;
                Ok(verdict)
            }
            PendingAuthorization::Delay(refusal, delay, taken) => {
                steps = taken;
                delay.wait().await;
                Err(refusal)
            }
            PendingAuthorization::Verification(pending) => match credential(route, request) {
                Ok(Some(credential)) => {
                    let presented = self.presented(route, request, &credential);
                    let verification = self.verifier.verify_later(&presented, memory, pending);
                    let (verification, wait) = timed(request.is_timed, pin!(verification)).await;
                    steps = Steps::of(&verification);
                    if wait.is_some() {
                        steps.waits().lookup = wait;
                    }
                    let verdict = verdict(verification, route);
                    if let Err(refusal) = &verdict
                        && let Some(delay) = self.count_auth_failure(refusal, request.client_ip)
                    {
                        delay.wait().await;
                    }
                    verdict.map(Some)
                }
                Ok(None) => Ok(None),
                Err(rejection) => Err(rejection.into()),
            },
        };
        match (verdict, &route.limits) {
            (Ok(verdict), Some(limits)) => {
                let charge = self.charge(limits, verdict.as_ref(), request, memory);
                let (limits, wait) = timed(request.is_timed, pin!(charge)).await;
                if wait.is_some() {
                    steps.waits().charge = wait;
                }
                Authorization::charged(verdict, limits, steps)
            }
            (outcome, _) => Authorization::uncharged(outcome, steps),
        }
    }

    fn presented<'a, U, F>(
        &self,
        route: &'a Route<U>,
        request: &AuthorizeRequest<'_, F>,
        credential: &'a str,
    ) -> Presented<'a> {
        Presented {
            tenant: self.tenant,
            credential,
            client_ip: request.client_ip,
            arrived: request.arrived,
            audiences: &route.audiences,
            cache: CachePolicy::default(),
            lookup_charge: request.client_ip,
            revoke_with_parent: self.revoke_with_parent,
        }
    }

    /// Rejects a request of an address with too many rejected credentials, unless the credential was verified before.
    fn check_auth_failures(&self, presented: &Presented<'_>, memory: &ConnectionMemory) -> Result<(), Rejection> {
        let Some(throttle) = &self.auth_failures else { return Ok(()) };
        throttle.check(presented.client_ip, presented.arrived, || self.verifier.is_proven(presented, memory))
    }

    /// Counts a rejected credential. Returns the delay of its response, if there is one.
    fn count_auth_failure(&self, refusal: &Refusal, client_ip: Option<IpAddr>) -> Option<Delay> {
        self.auth_failures.as_ref()?.count(&refusal.rejection, client_ip)
    }

    /// Charges the limits that are counted in this process; `None` if they are counted elsewhere, or the limit of the key must be looked
    /// up.
    fn charge_now<F>(
        &self,
        limits: &RouteLimits,
        verdict: Option<&Verdict>,
        request: &AuthorizeRequest<'_, F>,
        memory: &mut ConnectionMemory,
    ) -> Option<RateLimitOutcome> {
        let key_limit = match verdict {
            Some(verdict) => self.verifier.rate_limit_now(verdict, request.arrived, memory)?,
            None => None,
        };
        limits.charge_now(&Caller { tenant: self.tenant, verdict, key_limit, client_ip: request.client_ip })
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

/// The credential of a request; `None` if it may pass without one.
#[inline]
fn credential<'a, U, F: Fields>(
    route: &'a Route<U>,
    request: &AuthorizeRequest<'a, F>,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    if route.auth == Auth::None {
        return Ok(None);
    }
    match extract(&route.credentials, request.fields, request.query)? {
        Some(found)
            if found.is_ambient
                && !request.is_trusted_origin
                && is_cross_origin_write(request.method, request.host, request.fields) =>
        {
            Err(Rejection::CrossOriginForbidden)
        }
        Some(found) => Ok(Some(found.text)),
        None if route.auth == Auth::Optional => Ok(None),
        None => Err(Rejection::CredentialMissing),
    }
}

/// The verdict of a verification, if the credential has the scopes that the route requires.
fn verdict<U>(verification: Verification, route: &Route<U>) -> Result<Verdict, Box<Refusal>> {
    let Verification { outcome, denied_key, .. } = verification;
    let denied = |denial: Denial| Refusal { rejection: denial.into(), key: denied_key.map(|key| *key) };
    let verdict = outcome.map_err(|denial| Box::new(denied(denial)))?;
    match check_scopes(&verdict, route) {
        Ok(()) => Ok(verdict),
        Err(rejection) => Err(Box::new(Refusal { rejection, key: Some(verdict.key_id()) })),
    }
}

/// Checks that a credential has all scopes that a route requires.
pub(super) fn check_scopes<U>(verdict: &Verdict, route: &Route<U>) -> Result<(), Rejection> {
    if verdict.scopes().contains_all(&route.scopes) {
        Ok(())
    } else {
        Err(Rejection::ScopeInsufficient { required: Arc::clone(&route.scopes) })
    }
}
