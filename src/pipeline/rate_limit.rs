//! Charges a request to its rate limits, and describes them in response fields. All limits of a request are charged in one step or
//! not at all.

#[cfg(feature = "layer")]
mod limit_states;
mod plan;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

#[cfg(feature = "layer")]
pub(crate) use self::limit_states::LimitStates;
pub use self::plan::Caller;
use self::plan::{Plan, Rule};
use super::headers::{FieldEdits, SetName};
use crate::config::{Auth, CountBy, GatewayConfig, LimitConfig, OnBackendDown, RouteConfig, UpstreamLimitFields};
use crate::policy::RateLimitPolicy;
use crate::ratelimit::{Charge, ChargeResult, Limit, Limiter, NamedLimit, Outcome, Outcomes};
use crate::wire::Rejection;
use crate::wire::fields::Fields;
use crate::wire::ratelimit::{legacy_fields, policy, state};

/// Fields whose values are lists.
const LIST_FIELDS: [SetName; 2] = [SetName::RateLimitPolicy, SetName::RateLimit];
const LEGACY_FIELDS: [SetName; 3] = [SetName::LegacyLimit, SetName::LegacyRemaining, SetName::LegacyReset];

/// Maximum number of cached plans for keys with a limit of their own, over all routes of a snapshot. Beyond it, plans are computed
/// for each request.
const KEY_PLANS_MAX: usize = 1024;

/// The rate limits of a configuration, from which the limits of each route are built.
pub(super) struct Limits {
    limiter: Arc<Limiter>,
    rules: HashMap<String, Rule>,
    /// Names of the limits of the tenant.
    of_tenant: Vec<String>,
    on_backend_down: OnBackendDown,
    legacy_fields: bool,
    key_plans_left: Arc<AtomicUsize>,
}

/// The rate limits of a route.
pub struct RouteLimits {
    limiter: Arc<Limiter>,
    rules: Vec<Rule>,
    /// The plan for callers with a valid credential whose key has no limit of its own.
    authenticated: Arc<Plan>,
    /// The plan for anonymous callers.
    anonymous: Arc<Plan>,
    /// Plans for callers whose key has a limit of its own, by quota and window.
    key_plans: ArcSwap<AHashMap<(u64, Duration), Arc<Plan>>>,
    key_plans_left: Arc<AtomicUsize>,
    cost: u64,
    on_backend_down: OnBackendDown,
    legacy_fields: bool,
}

/// The result of charging a request. Rendered as response fields by [`RateLimitOutcome::fields`].
#[derive(Debug, Clone, Default)]
pub struct RateLimitOutcome {
    plan: Option<Arc<Plan>>,
    /// The groups of the plan that were counted, by index, and their results. Most plans have one group.
    counted: SmallVec<[(usize, Outcomes); 1]>,
    legacy_fields: bool,
    /// Why the request is rejected.
    pub rejection: Option<Rejection>,
}

/// The response fields that describe rate limits.
#[derive(Debug, Clone, Default)]
pub struct LimitFields {
    policy: Option<HeaderValue>,
    state: Option<HeaderValue>,
    /// On the heap, because most configurations do not send them.
    legacy: Option<Box<[HeaderValue; 3]>>,
}

impl Limits {
    /// The limits of a configuration, counted by `limiter`.
    pub(super) fn new(config: &GatewayConfig, limiter: Arc<Limiter>, on_backend_down: OnBackendDown) -> Self {
        let rule = |(name, limit): (&String, &LimitConfig)| {
            let named = NamedLimit { name: name.as_str().into(), limit: Limit::new(limit.quota, limit.window.0) };
            (name.clone(), Rule { named, count_by: limit.count_by, dry_run: limit.dry_run })
        };
        Self {
            limiter,
            rules: config.limits.iter().map(rule).collect(),
            of_tenant: config.tenant_limits.clone(),
            on_backend_down,
            legacy_fields: config.limit_headers.x_ratelimit,
            key_plans_left: Arc::new(AtomicUsize::new(KEY_PLANS_MAX)),
        }
    }

    /// The limits of a route. The limits of the tenant come first; they do not apply to routes that do not authenticate.
    pub(super) fn of_route(&self, route: &RouteConfig) -> RouteLimits {
        let tenant_limits = if route.auth == Auth::None { &[] } else { &self.of_tenant[..] };
        let names = tenant_limits.iter().chain(route.limits.iter().filter(|name| !tenant_limits.contains(name)));
        let rules: Vec<Rule> = names.filter_map(|name| self.rules.get(name)).cloned().collect();
        let anonymous: Vec<Rule> = rules.iter().cloned().map(Rule::anonymous).collect();
        RouteLimits {
            limiter: Arc::clone(&self.limiter),
            authenticated: Arc::new(Plan::new(&rules)),
            anonymous: Arc::new(Plan::new(&anonymous)),
            rules,
            key_plans: ArcSwap::default(),
            key_plans_left: Arc::clone(&self.key_plans_left),
            cost: route.cost,
            on_backend_down: self.on_backend_down,
            legacy_fields: self.legacy_fields,
        }
    }
}

impl RouteLimits {
    /// What happens to requests that cannot be counted.
    pub(super) fn on_backend_down(&self) -> OnBackendDown {
        self.on_backend_down
    }

    /// The cost of a request.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Charges a request to all limits that apply to it, or to none.
    pub async fn charge(&self, caller: &Caller<'_>) -> RateLimitOutcome {
        self.charge_plan(self.plan(caller), caller).await
    }

    async fn charge_plan(&self, plan: Arc<Plan>, caller: &Caller<'_>) -> RateLimitOutcome {
        let mut outcome = RateLimitOutcome { legacy_fields: self.legacy_fields, ..RateLimitOutcome::default() };
        self.charge_enforced(&plan, caller, &mut outcome).await;
        // Dry-run limits never reject. A rejected request is not charged to them.
        let cost = if outcome.rejection.is_some() { 0 } else { self.cost };
        for (index, group) in plan.dry_run() {
            if let Some(charge) = group.charge(caller, cost) {
                outcome.add(index, self.limiter.charge(&charge).await);
            }
        }
        outcome.plan = Some(plan);
        outcome
    }

    /// What [`RouteLimits::charge`] would result in. Charges nothing: the states are those before the request.
    pub async fn preview(&self, caller: &Caller<'_>) -> RateLimitOutcome {
        let plan = self.plan(caller);
        let mut outcome = RateLimitOutcome { legacy_fields: self.legacy_fields, ..RateLimitOutcome::default() };
        let (mut charges, mut results) = (Vec::new(), Vec::new());
        // As when charged: after a rejection, the other limits are only read.
        let mut cost = self.cost;
        for (index, group) in plan.enforced().chain(plan.dry_run()) {
            let Some(charge) = group.charge(caller, 0) else { continue };
            let mut result = self.limiter.charge(&charge).await;
            if let ChargeResult::Counted(decision) = &mut result {
                for (named, outcome) in charge.limits.iter().zip(&mut decision.outcomes) {
                    *outcome = outcome.preview(&named.limit, cost);
                }
                decision.admitted = decision.outcomes.iter().all(|outcome| outcome.admitted);
            }
            outcome.add(index, result.clone());
            // Dry-run limits never reject.
            if plan.is_enforced(index) {
                cost = if result.admits() { cost } else { 0 };
                charges.push(charge);
                results.push(result);
            }
        }
        outcome.rejection = rejection(&charges, &results);
        drop(charges);
        outcome.plan = Some(plan);
        outcome
    }

    /// As [`RouteLimits::charge`], if there are no limits, or they are counted in this process.
    pub(super) fn charge_now(&self, caller: &Caller<'_>) -> Option<RateLimitOutcome> {
        if caller.key_limit.is_none() && self.without_key_limit(caller).groups().is_empty() {
            return Some(RateLimitOutcome::default());
        }
        let plan = self.plan(caller);
        if !self.limiter.is_local() {
            return None;
        }
        match pin!(self.charge_plan(plan, caller)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            // A limiter that counts in this process does not suspend.
            Poll::Pending => None,
        }
    }

    async fn charge_enforced(&self, plan: &Plan, caller: &Caller<'_>, outcome: &mut RateLimitOutcome) {
        let (mut charges, mut indexes) = (SmallVec::<[Charge<'_>; 1]>::new(), SmallVec::<[usize; 1]>::new());
        for (index, group) in plan.enforced() {
            if let Some(charge) = group.charge(caller, self.cost) {
                charges.push(charge);
                indexes.push(index);
            }
        }
        let results = self.limiter.charge_all(&charges).await;
        outcome.rejection = rejection(&charges, &results);
        for (index, result) in indexes.into_iter().zip(results) {
            outcome.add(index, result);
        }
    }

    fn plan(&self, caller: &Caller<'_>) -> Arc<Plan> {
        match (caller.verdict, caller.key_limit) {
            (Some(_), Some(limit)) => self.key_plan(limit),
            _ => Arc::clone(self.without_key_limit(caller)),
        }
    }

    /// The plan for a caller whose key has no limit of its own.
    fn without_key_limit(&self, caller: &Caller<'_>) -> &Arc<Plan> {
        if caller.verdict.is_some() { &self.authenticated } else { &self.anonymous }
    }

    fn key_plan(&self, limit: RateLimitPolicy) -> Arc<Plan> {
        let key = (limit.quota.get(), limit.window);
        if let Some(plan) = self.key_plans.load().get(&key) {
            return Arc::clone(plan);
        }
        let own = Rule { named: NamedLimit::of_key(limit), count_by: CountBy::Key, dry_run: false };
        let plan = Arc::new(Plan::new(std::iter::once(&own).chain(&self.rules)));
        let take = |left: usize| left.checked_sub(1);
        if self.key_plans_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            self.key_plans.rcu(|plans| {
                let mut plans = AHashMap::clone(plans);
                plans.insert(key, Arc::clone(&plan));
                plans
            });
        }
        plan
    }
}

impl std::fmt::Debug for RouteLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteLimits").field("rules", &self.rules).field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl RateLimitOutcome {
    /// The outcome of a request that is rejected because its limits cannot be read or counted.
    pub(super) fn unavailable(rejection: Rejection) -> Self {
        Self { rejection: Some(rejection), ..Self::default() }
    }

    /// The limits that were counted, with their state after the request.
    pub fn states(&self) -> impl Iterator<Item = (&NamedLimit, &Outcome)> {
        let groups = self.plan.as_ref().map_or(&[][..], |plan| plan.groups());
        self.counted.iter().flat_map(move |(index, outcomes)| groups[*index].limits().iter().zip(outcomes))
    }

    /// The same, to be kept longer than this.
    #[cfg(feature = "layer")]
    pub(crate) fn limit_states(&self) -> LimitStates {
        if self.is_empty() { LimitStates::default() } else { LimitStates::new(self.plan.clone(), &self.counted) }
    }

    /// Whether no limit was counted. Then no response field describes any.
    pub(super) fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// The response fields that describe the limits.
    pub fn fields(&self) -> LimitFields {
        let Some(plan) = &self.plan else {
            return LimitFields::default();
        };
        let groups = plan.groups();
        let limits = || self.counted.iter().flat_map(|(index, _)| groups[*index].limits());
        let outcomes = || self.counted.iter().flat_map(|(_, outcomes)| outcomes);
        let policy = if self.counted.len() == groups.len() { plan.policy().cloned() } else { policy(limits()) };
        let legacy = if self.legacy_fields { legacy_fields(limits(), outcomes()).map(Box::new) } else { None };
        LimitFields { policy, state: state(limits(), outcomes()), legacy }
    }

    fn add(&mut self, group: usize, result: ChargeResult) {
        if let ChargeResult::Counted(decision) = result {
            self.counted.push((group, decision.outcomes));
        }
    }
}

impl LimitFields {
    /// Sets the fields on a response that Keygate makes itself.
    pub fn insert_into(self, headers: &mut HeaderMap) {
        for (name, value) in self.into_fields() {
            headers.insert(name.header(), value);
        }
    }

    /// Adds the fields to the edits of an upstream's response. `fields` are the response's own fields; `upstream` says what happens
    /// to rate-limit fields among them.
    pub fn edit<F: Fields>(self, edits: &mut FieldEdits, fields: &F, upstream: UpstreamLimitFields) {
        if !fields.field_names().any(is_limit_field) {
            self.set_fields(edits);
            return;
        }
        let is_empty = self.policy.is_none() && self.state.is_none() && self.legacy.is_none();
        let removes = match upstream {
            UpstreamLimitFields::Keep => false,
            UpstreamLimitFields::Replace => !is_empty,
            UpstreamLimitFields::Remove => true,
        };
        if removes {
            LIST_FIELDS.into_iter().chain(LEGACY_FIELDS).for_each(|name| edits.remove_field(name));
            self.set_fields(edits);
            return;
        }
        for (name, value) in self.into_fields() {
            // The lists are joined, Keygate's members first. The legacy fields hold one number, so Keygate's replaces the upstream's.
            let header = name.header();
            let theirs = fields.field_values(&header).filter(|_| LIST_FIELDS.contains(&name));
            let values: SmallVec<[&[u8]; 4]> = std::iter::once(value.as_bytes()).chain(theirs).collect();
            if let Ok(list) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
                edits.set_field(name, list);
            }
        }
    }

    #[inline]
    fn set_fields(self, edits: &mut FieldEdits) {
        edits.set_some(SetName::RateLimitPolicy, self.policy);
        edits.set_some(SetName::RateLimit, self.state);
        if let Some(values) = self.legacy {
            for (name, value) in LEGACY_FIELDS.into_iter().zip(*values) {
                edits.set_field(name, value);
            }
        }
    }

    fn into_fields(self) -> impl Iterator<Item = (SetName, HeaderValue)> {
        let lists = LIST_FIELDS.into_iter().zip([self.policy, self.state]);
        let lists = lists.filter_map(|(name, value)| Some((name, value?)));
        lists.chain(self.legacy.into_iter().flat_map(|values| LEGACY_FIELDS.into_iter().zip(*values)))
    }
}

/// Whether a field name may be one of the rate-limit fields.
fn is_limit_field(name: &str) -> bool {
    let starts_with = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match name.as_bytes().first() {
        Some(b'r' | b'R') => starts_with("ratelimit"),
        Some(b'x' | b'X') => starts_with("x-ratelimit"),
        _ => false,
    }
}

fn rejection(charges: &[Charge<'_>], results: &[ChargeResult]) -> Option<Rejection> {
    if results.iter().all(ChargeResult::admits) {
        return None;
    }
    if results.contains(&ChargeResult::Closed) {
        return Some(Rejection::LimiterUnavailable);
    }
    let decisions = || {
        charges.iter().zip(results).filter_map(|(charge, result)| match result {
            ChargeResult::Counted(decision) => Some((charge.limits, decision)),
            ChargeResult::Open | ChargeResult::Closed => None,
        })
    };
    let violated = decisions().flat_map(|(limits, decision)| {
        let is_exceeded = |(_, outcome): &(&NamedLimit, &Outcome)| !outcome.admitted;
        limits.iter().zip(&decision.outcomes).filter(is_exceeded).map(|(named, _)| Arc::clone(&named.name))
    });
    Some(Rejection::QuotaExceeded {
        violated: violated.collect(),
        retry_after: decisions().map(|(_, decision)| decision.retry_after()).max().unwrap_or(Duration::ZERO),
    })
}

#[cfg(test)]
mod tests;
