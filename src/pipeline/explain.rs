//! Explains step by step how a request would be decided, with the steps of the pipeline. Nothing is charged, logged or recorded.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::authorize::{Authorizer, check_scopes};
use super::head::RequestHead;
use super::rate_limit::{Caller, RateLimitOutcome, RouteLimits};
use super::route::Route;
use super::snapshot::Snapshot;
use crate::config::Auth;
use crate::id::KeyId;
use crate::verifier::{CachePolicy, CredentialKind, Denial, Presented, Verdict, VerificationSteps};
use crate::wire::Rejection;
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::extract::extract;

/// What is explained.
pub struct ExplainRequest<'a> {
    /// Whose credential the request carries.
    pub subject: ExplainSubject<'a>,
    /// The method and the URL; without them, route, scopes and limits are not explained.
    pub target: Option<(Method, Uri)>,
    /// The client's address, if known.
    pub client_ip: Option<IpAddr>,
}

/// A credential, or the id of the key that it would be.
#[derive(Clone, Copy)]
pub enum ExplainSubject<'a> {
    /// The text of a credential.
    Credential(&'a str),
    /// The id of a key.
    Key(KeyId),
}

/// The outcome of one step.
#[derive(Debug)]
pub enum StepOutcome {
    /// The request passes the step.
    Passed(String),
    /// The request is rejected at this step.
    Failed(Rejection, String),
    /// The step was not made.
    Skipped(String),
}

/// A request, explained.
#[derive(Debug)]
pub struct Explanation {
    /// The steps, by their names.
    pub steps: Vec<(&'static str, StepOutcome)>,
    /// The step that decides and why, if the request would be rejected.
    pub rejection: Option<(&'static str, Rejection)>,
    /// A step without which it is not known whether the request would pass.
    pub undecided: Option<&'static str>,
    /// The name of the route, if one matches.
    pub route: Option<Arc<str>>,
    /// The key of the credential, whether it is accepted or not.
    pub bearer: Option<Verdict>,
}

/// The steps in the order in which they are listed.
const STEPS: [&str; 9] = ["format", "secret", "record", "status", "address", "audience", "route", "scopes", "limits"];

/// The steps of one explanation, in any order.
#[derive(Default)]
struct Steps {
    made: Vec<(&'static str, StepOutcome)>,
    rejection: Option<(&'static str, Rejection)>,
    undecided: Option<&'static str>,
}

impl<U> Snapshot<U> {
    /// Explains a request step by step. The decision is the one that the pipeline would make; addresses with too many rejected
    /// credentials, client certificates and TLS are not considered.
    pub async fn explain(&self, request: &ExplainRequest<'_>) -> Explanation {
        let mut steps = Steps::default();
        let fields = fields(request.subject);
        let route = self.explain_route(request, &fields, &mut steps);
        let mut bearer = None;
        let credential_is_read = route.as_ref().is_none_or(|route| route.auth != Auth::None);
        if credential_is_read {
            let audiences = route.as_ref().map_or(&[][..], |route| &route.audiences);
            bearer = self.authorizer.explain(request, &fields, audiences, &mut steps).await;
        }
        match (&route, &bearer) {
            (Some(route), bearer) if bearer.is_some() || !credential_is_read => {
                if let Some(bearer) = bearer {
                    steps.scopes(bearer, route);
                }
                self.authorizer.explain_limits(route, bearer.as_ref(), request, &mut steps).await;
            }
            _ => {}
        }
        let why = match (&request.target, &route) {
            (None, _) => "no method and URL were given",
            (Some(_), None) => "no route matches",
            (Some(_), Some(_)) if !credential_is_read => "the route does not read credentials",
            (Some(_), Some(_)) => "an earlier step failed",
        };
        Explanation {
            steps: complete(steps.made, why),
            rejection: steps.rejection,
            undecided: steps.undecided,
            route: route.map(|route| Arc::clone(&route.name)),
            bearer,
        }
    }

    /// Matches the request to its route.
    fn explain_route(
        &self,
        request: &ExplainRequest<'_>,
        fields: &Result<HeaderMap, Rejection>,
        steps: &mut Steps,
    ) -> Option<Arc<Route<U>>> {
        let (method, uri) = request.target.as_ref()?;
        let empty = HeaderMap::new();
        let fields = fields.as_ref().unwrap_or(&empty);
        match self.find_route(&RequestHead::new(method, uri, fields)) {
            Ok((route, _)) => {
                let certificate =
                    route.client_certificate.as_ref().map_or("", |_| "; its client certificate is not considered");
                steps.pass("route", format!("matches {:?}{certificate}", route.name));
                Some(route)
            }
            Err(rejection) => {
                steps.fail("route", rejection, "no route matches host, path and method".into());
                None
            }
        }
    }
}

impl Authorizer {
    /// Explains the credential. Returns its key.
    async fn explain(
        &self,
        request: &ExplainRequest<'_>,
        fields: &Result<HeaderMap, Rejection>,
        audiences: &[String],
        steps: &mut Steps,
    ) -> Option<Verdict> {
        let presented = |credential| Presented { audiences, ..self.presented_for(request, credential) };
        let verification = match request.subject {
            ExplainSubject::Key(id) => self.verifier.explain_key(id, &presented("")).await,
            ExplainSubject::Credential(_) => {
                let extract = |fields| Ok(extract(CredentialLocations::standard(), fields, None)?);
                match fields.as_ref().map_err(Clone::clone).and_then(extract) {
                    Ok(Some(found)) => self.verifier.explain(&presented(&found.text)).await,
                    Ok(None) => {
                        steps.fail("format", Rejection::CredentialMissing, "the text is empty".into());
                        return None;
                    }
                    Err(rejection) => {
                        steps.fail("format", rejection, "the text cannot be a credential".into());
                        return None;
                    }
                }
            }
        };
        steps.verification(&verification, matches!(request.subject, ExplainSubject::Credential(_)));
        verification.bearer
    }

    fn presented_for<'a>(&self, request: &ExplainRequest<'_>, credential: &'a str) -> Presented<'a> {
        Presented {
            client_ip: request.client_ip,
            cache: CachePolicy { read: true, write: false },
            revoke_with_parent: self.revoke_with_parent,
            ..Presented::new(self.tenant, credential, Instant::now())
        }
    }

    async fn explain_limits<U>(
        &self,
        route: &Route<U>,
        bearer: Option<&Verdict>,
        request: &ExplainRequest<'_>,
        steps: &mut Steps,
    ) {
        let Some(limits) = &route.limits else {
            steps.pass("limits", "rate limits are not enforced".into());
            return;
        };
        let key_limit = match bearer {
            Some(bearer) => self.verifier.explain_rate_limit(bearer, &self.presented_for(request, "")).await,
            None => Ok(None),
        };
        match key_limit {
            Ok(key_limit) => {
                let caller = Caller { tenant: self.tenant, verdict: bearer, key_limit, client_ip: request.client_ip };
                steps.limits(limits, limits.preview(&caller).await);
            }
            Err(denial) => {
                let detail = denial.message().into();
                steps.fail("limits", denial.into(), detail);
            }
        }
    }
}

/// The fields of a request that carries the credential.
fn fields(subject: ExplainSubject<'_>) -> Result<HeaderMap, Rejection> {
    let mut fields = HeaderMap::new();
    if let ExplainSubject::Credential(credential) = subject {
        let value = HeaderValue::from_str(&format!("Bearer {credential}"));
        let mut value = value.map_err(|_| Rejection::CredentialMalformed)?;
        value.set_sensitive(true);
        fields.insert(AUTHORIZATION, value);
    }
    Ok(fields)
}

impl Steps {
    fn pass(&mut self, name: &'static str, detail: String) {
        self.made.push((name, StepOutcome::Passed(detail)));
    }

    fn skip(&mut self, name: &'static str, detail: &str) {
        self.made.push((name, StepOutcome::Skipped(detail.into())));
    }

    /// The first failure decides: the steps are made in the order of the pipeline.
    fn fail(&mut self, name: &'static str, rejection: Rejection, detail: String) {
        if self.rejection.is_none() {
            self.rejection = Some((name, rejection.clone()));
        }
        self.made.push((name, StepOutcome::Failed(rejection, detail)));
    }

    fn verification(&mut self, verification: &VerificationSteps, has_credential: bool) {
        let kind = verification.kind;
        if has_credential {
            self.pass("format", format!("has the shape of this kind of credential: {}", kind.name()));
        } else {
            self.skip("format", "explained by the id of the key");
            self.skip("secret", "explained by the id of the key");
        }
        let secret = match kind {
            CredentialKind::Issued => "the checksum, the age and the prefix are valid",
            CredentialKind::Imported => "an imported key is recognized by its hash",
            CredentialKind::DerivedJwt | CredentialKind::DerivedMacaroon => {
                "the signature, the times and the issuer are valid"
            }
        };
        let expiry = verification.bearer.as_ref().and_then(Verdict::expire_time);
        let active = expiry.map_or_else(|| "active".to_owned(), |end| format!("active, until {end:?}"));
        let mut results = vec![
            ("secret", &verification.secret, secret.to_owned()),
            ("record", &verification.record, "the key exists".to_owned()),
            ("status", &verification.status, active),
            ("address", &verification.address, "the address may use it".to_owned()),
            ("audience", &verification.audience, "names an audience of the route, or neither has any".to_owned()),
        ];
        if kind.is_derived() {
            self.skip("record", "a token is verified without a record");
            // The order of the pipeline.
            let status = results.remove(2);
            results.push(status);
        }
        for (name, result, passed) in results {
            match result {
                Some(Ok(())) => self.pass(name, passed),
                Some(Err(Denial::AddressNotAllowed { known: false })) => {
                    self.skip(name, "the key may be used from some addresses only; give the address of the client");
                    self.undecided = Some(name);
                }
                Some(Err(denial)) => self.fail(name, denial.clone().into(), denial.message().into()),
                None => {}
            }
        }
    }

    fn scopes<U>(&mut self, bearer: &Verdict, route: &Route<U>) {
        match check_scopes(bearer, route) {
            Ok(()) if route.scopes.is_empty() => self.pass("scopes", "the route requires none".into()),
            Ok(()) => self.pass("scopes", format!("has all of {}", route.scopes.join(" "))),
            Err(rejection) => {
                let required = route.scopes.iter().map(|scope| &**scope);
                let lacking: Vec<&str> =
                    required.filter(|scope| !bearer.scopes().iter().any(|own| own == *scope)).collect();
                self.fail("scopes", rejection, format!("lacks {}", lacking.join(" ")));
            }
        }
    }

    fn limits(&mut self, limits: &RouteLimits, outcome: RateLimitOutcome) {
        let states = outcome
            .states()
            .map(|(named, outcome)| format!("{}: {} of {} left", named.name, outcome.remaining, named.limit.quota()));
        let states = states.collect::<Vec<_>>().join(", ");
        let detail =
            if states.is_empty() { "no limit applies".into() } else { format!("{states}; cost {}", limits.cost()) };
        match outcome.rejection {
            Some(rejection) => self.fail("limits", rejection, detail),
            None => self.pass("limits", detail),
        }
    }
}

/// The steps as they are listed, with those that were not made.
fn complete(mut made: Vec<(&'static str, StepOutcome)>, why: &str) -> Vec<(&'static str, StepOutcome)> {
    let step = |name: &&'static str| match made.iter().position(|(made, _)| made == name) {
        Some(index) => made.swap_remove(index),
        None => (*name, StepOutcome::Skipped(why.into())),
    };
    STEPS.iter().map(step).collect()
}

#[cfg(test)]
mod tests;
