//! What a request is charged, and what its caller is told of it. Works on plain values.

mod plan;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use self::plan::{Plan, Rule};
use super::route::Route;
use crate::config::{Auth, CountBy, GatewayConfig, RouteConfig, UpstreamLimitFields};
use crate::id::TenantId;
use crate::policy::RateLimitPolicy;
use crate::ratelimit::{Charge, ChargeResult, Limit, Limiter, NamedLimit, Outcomes};
use crate::verifier::{Denial, Outage, Verdict};
use crate::wire::ratelimit::{
    RATE_LIMIT, RATE_LIMIT_POLICY, X_RATE_LIMIT_LIMIT, X_RATE_LIMIT_REMAINING, X_RATE_LIMIT_RESET,
    describe_in_older_fields, policy, state,
};

const LISTS: [HeaderName; 2] = [RATE_LIMIT_POLICY, RATE_LIMIT];
const FIELDS: [HeaderName; 5] =
    [RATE_LIMIT_POLICY, RATE_LIMIT, X_RATE_LIMIT_LIMIT, X_RATE_LIMIT_REMAINING, X_RATE_LIMIT_RESET];

/// How many routes and limits of keys are remembered together. Few installations give out so many different limits; the plans
/// for those beyond are made again for each request.
const OWN_PLANS_MAX: usize = 1024;

/// The limits of the gateway's configuration, and who counts.
pub struct Limits {
    limiter: Arc<Limiter>,
    /// By the route's number.
    routes: Vec<RouteLimits>,
    /// Plans for keys that have a limit of their own, by the route's number and the limit.
    own: ArcSwap<HashMap<(usize, u64, Duration), Arc<Plan>>>,
    older_fields: bool,
}

struct RouteLimits {
    rules: Vec<Rule>,
    /// For a caller with a good credential.
    known: Arc<Plan>,
    /// For nobody in particular.
    anonymous: Arc<Plan>,
}

/// Whose request it is.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Whom the keys belong to.
    pub tenant: TenantId,
    /// The good credential; nobody in particular when absent.
    pub verdict: Option<&'a Verdict>,
    /// The limit that the key itself has.
    pub own: Option<RateLimitPolicy>,
    /// The client's address.
    pub peer: Option<IpAddr>,
}

/// What limits say to a request.
#[derive(Debug, Default)]
pub struct Charged {
    policy: Option<HeaderValue>,
    state: Option<HeaderValue>,
    /// The fields that came before, if they are wanted.
    older: Option<Box<HeaderMap>>,
    /// Why it may not pass.
    pub denial: Option<Denial>,
}

/// What was counted: limits of one owner, and what they said. Mostly there is one.
type Counted<'a> = SmallVec<[(&'a [NamedLimit], Outcomes); 1]>;

impl Limits {
    /// The limits of a configuration, counted by `limiter`.
    pub fn new(config: &GatewayConfig, limiter: Arc<Limiter>) -> Self {
        let read = |(name, limit): (&String, &crate::config::LimitConfig)| {
            let named = NamedLimit { name: name.as_str().into(), limit: Limit::new(limit.quota, limit.window.0) };
            (name.clone(), Rule { named, count_by: limit.count_by, is_tried: limit.dry_run })
        };
        let rules: HashMap<String, Rule> = config.limits.iter().map(read).collect();
        let limits = |route: &RouteConfig| RouteLimits::new(route, &config.tenant_limits, &rules);
        Self {
            limiter,
            routes: config.routes.iter().map(limits).collect(),
            own: ArcSwap::default(),
            older_fields: config.limit_headers.x_ratelimit,
        }
    }

    /// Charges a request to all limits that hold for it, or to none.
    pub async fn charge(&self, route: &Route, caller: &Caller<'_>) -> Charged {
        let Some(plan) = self.plan(route.number, caller) else {
            return Charged::default();
        };
        let requests: SmallVec<[_; 1]> =
            plan.enforced().filter_map(|group| group.request(caller, route.cost)).collect();
        let answers = self.limiter.charge_all(&requests).await;
        let denial = refusal(&requests, &answers);
        let mut counted = Counted::new();
        for (request, answer) in requests.iter().zip(answers) {
            add(&mut counted, request.limits, answer);
        }
        // What is only tried refuses nobody, and is charged nothing for what others refused.
        let cost = if denial.is_some() { 0 } else { route.cost };
        for request in plan.tried().filter_map(|group| group.request(caller, cost)) {
            add(&mut counted, request.limits, self.limiter.charge(&request).await);
        }
        self.describe(&plan, &counted, denial)
    }

    fn plan(&self, number: usize, caller: &Caller<'_>) -> Option<Arc<Plan>> {
        let route = self.routes.get(number)?;
        Some(match (caller.verdict, caller.own) {
            (None, _) => Arc::clone(&route.anonymous),
            (Some(_), None) => Arc::clone(&route.known),
            (Some(_), Some(policy)) => self.own_plan(number, route, policy),
        })
    }

    fn own_plan(&self, number: usize, route: &RouteLimits, policy: RateLimitPolicy) -> Arc<Plan> {
        let key = (number, policy.quota.get(), policy.window);
        let known = self.own.load();
        if let Some(plan) = known.get(&key) {
            return Arc::clone(plan);
        }
        let own = Rule { named: NamedLimit::of_key(policy), count_by: CountBy::Key, is_tried: false };
        let plan = Arc::new(Plan::new(std::iter::once(&own).chain(&route.rules)));
        if known.len() < OWN_PLANS_MAX {
            self.own.rcu(|plans| {
                let mut plans = HashMap::clone(plans);
                plans.insert(key, Arc::clone(&plan));
                plans
            });
        }
        plan
    }

    fn describe(&self, plan: &Plan, counted: &Counted<'_>, denial: Option<Denial>) -> Charged {
        let limits = || counted.iter().flat_map(|(limits, _)| *limits);
        let outcomes = || counted.iter().flat_map(|(_, outcomes)| outcomes);
        let policy = if counted.len() == plan.len() { plan.policy().cloned() } else { policy(limits()) };
        let older = self.older_fields.then(|| {
            let mut fields = HeaderMap::new();
            describe_in_older_fields(&mut fields, limits(), outcomes());
            Box::new(fields)
        });
        Charged { policy, state: state(limits(), outcomes()), older, denial }
    }
}

impl RouteLimits {
    /// The limits that hold everywhere go first, but not where nobody is asked who they are.
    fn new(route: &RouteConfig, everywhere: &[String], rules: &HashMap<String, Rule>) -> Self {
        let everywhere = if route.auth == Auth::None { &[] } else { everywhere };
        let names = everywhere.iter().chain(route.limits.iter().filter(|name| !everywhere.contains(name)));
        let rules: Vec<Rule> = names.filter_map(|name| rules.get(name)).cloned().collect();
        let anonymous: Vec<Rule> = rules.iter().cloned().map(Rule::of_nobody).collect();
        Self { known: Arc::new(Plan::new(&rules)), anonymous: Arc::new(Plan::new(&anonymous)), rules }
    }
}

impl Charged {
    /// Adds where the caller stands to an upstream's answer, which may have such fields of its own.
    pub fn add_to(&self, response: &mut HeaderMap, upstream: UpstreamLimitFields) {
        if !response.keys().any(is_limit_field) {
            return self.describe(response);
        }
        let mut own = HeaderMap::new();
        self.describe(&mut own);
        if upstream == UpstreamLimitFields::Remove || (upstream == UpstreamLimitFields::Replace && !own.is_empty()) {
            for name in &FIELDS {
                response.remove(name);
            }
        }
        for (name, value) in &own {
            // Both are lists, so ours goes first and theirs follows; the older fields hold one number each.
            let theirs = response.get_all(name).iter().filter(|_| LISTS.contains(name));
            let values: Vec<_> = std::iter::once(value).chain(theirs).map(HeaderValue::as_bytes).collect();
            if let Ok(list) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
                response.insert(name.clone(), list);
            }
        }
    }

    /// Writes where the caller stands.
    pub fn describe(&self, headers: &mut HeaderMap) {
        self.policy.clone().map(|policy| headers.insert(RATE_LIMIT_POLICY, policy));
        self.state.clone().map(|state| headers.insert(RATE_LIMIT, state));
        for (name, value) in self.older.iter().flat_map(|older| older.iter()) {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Whether a field may be one of [`FIELDS`].
fn is_limit_field(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.strip_prefix("x-").unwrap_or(name).starts_with("ratelimit")
}

fn add<'a>(counted: &mut Counted<'a>, limits: &'a [NamedLimit], answer: ChargeResult) {
    if let ChargeResult::Counted(decision) = answer {
        counted.push((limits, decision.outcomes));
    }
}

fn refusal(requests: &[Charge<'_>], answers: &[ChargeResult]) -> Option<Denial> {
    if answers.iter().all(ChargeResult::admits) {
        return None;
    }
    if answers.contains(&ChargeResult::Closed) {
        return Some(Denial::Unavailable { cause: Outage::Limiter });
    }
    let decisions = || {
        requests.iter().zip(answers).filter_map(|(request, answer)| match answer {
            ChargeResult::Counted(decision) => Some((request.limits, decision)),
            ChargeResult::Open | ChargeResult::Closed => None,
        })
    };
    let refusing = decisions().flat_map(|(limits, decision)| {
        let refused = limits.iter().zip(&decision.outcomes).filter(|(_, outcome)| !outcome.admitted);
        refused.map(|(named, _)| Arc::clone(&named.name))
    });
    Some(Denial::QuotaExceeded {
        violated: refusing.collect(),
        retry_after: decisions().map(|(_, decision)| decision.retry_after()).max().unwrap_or(Duration::ZERO),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::config::LimitConfig;
    use crate::duration::ConfigDuration;

    fn limit(count_by: CountBy, dry_run: bool) -> LimitConfig {
        LimitConfig { quota: NonZeroU64::MIN, window: ConfigDuration(Duration::from_secs(60)), count_by, dry_run }
    }

    /// What is said to a caller without a credential, from an address that is known or not.
    fn charge(limits: &[(&str, LimitConfig)], older_fields: bool, peer: Option<IpAddr>) -> Charged {
        let names: Vec<_> = limits.iter().map(|(name, _)| *name).collect();
        let route = serde_json::json!({ "name": "api", "upstream": "a", "path_prefix": "/", "limits": names });
        let mut config = GatewayConfig {
            limits: limits.iter().map(|(name, limit)| ((*name).to_owned(), limit.clone())).collect(),
            routes: vec![serde_json::from_value(route).unwrap()],
            ..GatewayConfig::default()
        };
        config.limit_headers.x_ratelimit = older_fields;
        let clock = Arc::new(crate::clock::ManualClock::new(crate::clock::Timestamp::UNIX_EPOCH));
        let registry = prometheus::Registry::new();
        let metrics = crate::ratelimit::Metrics::register(&registry, Arc::default()).unwrap();
        let limiter = Limiter::local(crate::ratelimit::Local::new(64, clock), metrics);
        let limits = Limits::new(&config, Arc::new(limiter));
        let caller = Caller { tenant: TenantId::NIL, verdict: None, own: None, peer };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(limits.charge(&Route::from(&config.routes[0]), &caller))
    }

    fn charged(older_fields: bool) -> Charged {
        charge(&[("burst", limit(CountBy::Tenant, false))], older_fields, None)
    }

    fn answer(charged: &Charged, upstream: UpstreamLimitFields) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ratelimit-policy", r#""theirs";q=9;w=1"#),
            ("ratelimit", r#""theirs";r=8;t=1"#),
            ("x-ratelimit-limit", "9"),
            ("x-other", "kept"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        charged.add_to(&mut headers, upstream);
        let mut fields: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.sort();
        fields
    }

    #[test]
    fn limits_of_one_owner_are_told_together_and_those_that_did_not_count_are_not_told() {
        let limits = [
            ("a-tenant", limit(CountBy::Tenant, false)),
            ("b-key", limit(CountBy::Key, false)),
            ("c-tried", limit(CountBy::Tenant, true)),
            ("d-tenant", limit(CountBy::Tenant, false)),
            ("e-actor", limit(CountBy::Actor, false)),
        ];
        let told = |peer| {
            let charged = charge(&limits, false, peer);
            let value = |value: Option<HeaderValue>| value.unwrap().to_str().unwrap().replace([';', '"'], " ");
            (value(charged.policy), value(charged.state))
        };
        let all = told("192.0.2.1".parse().ok());
        let each = |names: &[&str], says: &str| {
            names.iter().map(|name| format!(" {name} {says}")).collect::<Vec<_>>().join(", ")
        };
        let names = ["a-tenant", "d-tenant", "b-key", "e-actor", "c-tried"];
        assert_eq!(all, (each(&names, " q=1 w=60"), each(&names, " r=0 t=60")));
        let names = ["a-tenant", "d-tenant", "c-tried"];
        assert_eq!(told(None), (each(&names, " q=1 w=60"), each(&names, " r=0 t=60")));
    }

    #[test]
    fn an_upstreams_own_fields_become_what_is_configured() {
        use UpstreamLimitFields::{Keep, Remove, Replace};
        let ours = ["ratelimit-policy: \"burst\";q=1;w=60", "ratelimit: \"burst\";r=0;t=60"];
        let kept = [
            r#"ratelimit-policy: "burst";q=1;w=60, "theirs";q=9;w=1"#,
            r#"ratelimit: "burst";r=0;t=60, "theirs";r=8;t=1"#,
            "x-other: kept",
            "x-ratelimit-limit: 9",
        ];
        assert_eq!(answer(&charged(false), Keep), kept);
        for upstream in [Replace, Remove] {
            assert_eq!(answer(&charged(false), upstream), [ours[0], ours[1], "x-other: kept"]);
        }
        let none = Charged::default();
        assert_eq!(answer(&none, Replace).len(), 4, "there is nothing to replace them with");
        assert_eq!(answer(&none, Keep).len(), 4);
        assert_eq!(answer(&none, Remove), ["x-other: kept"]);
        let older = answer(&charged(true), Keep);
        assert!(
            older.contains(&"x-ratelimit-limit: 1".to_owned()) && older.contains(&"x-ratelimit-reset: 60".to_owned())
        );
    }
}
