//! What a request is charged, and what its caller is told of it. Works on plain values.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::route::Route;
use crate::config::{Auth, CountBy, GatewayConfig, UpstreamLimitFields};
use crate::id::TenantId;
use crate::policy::RateLimitPolicy;
use crate::ratelimit::{Answer, Limit, Limiter, NamedLimit, Outcome, Owner, Request};
use crate::verifier::{Denial, Outage, Verdict};
use crate::wire::ratelimit::{
    RATE_LIMIT, RATE_LIMIT_POLICY, X_RATE_LIMIT_LIMIT, X_RATE_LIMIT_REMAINING, X_RATE_LIMIT_RESET, describe,
    describe_in_older_fields,
};

const LISTS: [HeaderName; 2] = [RATE_LIMIT_POLICY, RATE_LIMIT];
const FIELDS: [HeaderName; 5] =
    [RATE_LIMIT_POLICY, RATE_LIMIT, X_RATE_LIMIT_LIMIT, X_RATE_LIMIT_REMAINING, X_RATE_LIMIT_RESET];

/// The limits of the gateway's configuration, and who counts.
pub struct Limits {
    limiter: Arc<Limiter>,
    named: HashMap<Box<str>, ConfiguredLimit>,
    everywhere: Vec<Box<str>>,
    older_fields: bool,
}

struct ConfiguredLimit {
    named: NamedLimit,
    count_by: CountBy,
    dry_run: bool,
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
    limits: Vec<NamedLimit>,
    outcomes: Vec<Outcome>,
    older_fields: bool,
    /// Why it may not pass.
    pub denial: Option<Denial>,
}

impl Limits {
    /// The limits of a configuration, counted by `limiter`.
    pub fn new(config: &GatewayConfig, limiter: Arc<Limiter>) -> Self {
        let read = |(name, limit): (&String, &crate::config::LimitConfig)| {
            let named = NamedLimit { name: name.as_str().into(), limit: Limit::new(limit.quota, limit.window.0) };
            (name.as_str().into(), ConfiguredLimit { named, count_by: limit.count_by, dry_run: limit.dry_run })
        };
        Self {
            limiter,
            named: config.limits.iter().map(read).collect(),
            everywhere: config.tenant_limits.iter().map(|name| name.as_str().into()).collect(),
            older_fields: config.limit_headers.x_ratelimit,
        }
    }

    /// Charges a request to all limits that hold for it, or to none.
    pub async fn charge(&self, route: &Route, caller: &Caller<'_>) -> Charged {
        let (enforced, tried): (Vec<_>, Vec<_>) = self.holding(route, caller).into_iter().partition(|held| !held.2);
        let mut charged = Charged { older_fields: self.older_fields, ..Charged::default() };
        let enforced = by_owner(enforced);
        let requests: Vec<_> = enforced.iter().map(|(owner, limits)| request(*owner, limits, route.cost)).collect();
        let answers = self.limiter.charge_all(&requests).await;
        for ((_, limits), answer) in enforced.iter().zip(&answers) {
            charged.take(limits, answer);
        }
        charged.denial = refusal(&charged, &answers);
        // What is only tried refuses nobody, and is charged nothing for what others refused.
        for (owner, limits) in by_owner(tried) {
            let cost = if charged.denial.is_some() { 0 } else { route.cost };
            let answer = self.limiter.charge(&request(owner, &limits, cost)).await;
            charged.take(&limits, &answer);
        }
        charged
    }

    /// Each limit that holds, whose bucket is charged, and whether it is only tried.
    fn holding(&self, route: &Route, caller: &Caller<'_>) -> Vec<(Owner, NamedLimit, bool)> {
        let own = caller.verdict.zip(caller.own).map(|(verdict, policy)| {
            (Owner::Key(verdict.tenant(), verdict.key_id()), NamedLimit::of_key(policy), false)
        });
        let everywhere = if route.auth == Auth::None { &[] } else { &self.everywhere[..] };
        let names = everywhere.iter().chain(route.limits.iter().filter(|name| !everywhere.contains(name)));
        let configured = names.filter_map(|name| self.named.get(name)).filter_map(|limit| {
            let owner = owner(limit.count_by, caller)?;
            Some((owner, limit.named.clone(), limit.dry_run))
        });
        own.into_iter().chain(configured).collect()
    }
}

impl Charged {
    fn take(&mut self, limits: &[NamedLimit], answer: &Answer) {
        if let Answer::Counted(decision) = answer {
            self.limits.extend_from_slice(limits);
            self.outcomes.extend_from_slice(&decision.outcomes);
        }
    }

    /// Adds where the caller stands to an upstream's answer, which may have such fields of its own.
    pub fn add_to(&self, response: &mut HeaderMap, upstream: UpstreamLimitFields) {
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
        // When to try again stands in a refusal already.
        describe(headers, &self.limits, &self.outcomes, None);
        if self.older_fields {
            describe_in_older_fields(headers, &self.limits, &self.outcomes);
        }
    }
}

/// Whose bucket; requests of nobody in particular count by address, and those from nowhere by tenant.
fn owner(count_by: CountBy, caller: &Caller<'_>) -> Option<Owner> {
    let address = || caller.peer.map(|peer| Owner::Address(caller.tenant, peer));
    match (count_by, caller.verdict) {
        (CountBy::Tenant, _) => Some(Owner::Tenant(caller.tenant)),
        (CountBy::Key, Some(verdict)) => Some(Owner::Key(caller.tenant, verdict.key_id())),
        (CountBy::Actor, Some(verdict)) => Some(Owner::actor(caller.tenant, verdict.actor_id())),
        (CountBy::Address, _) | (_, None) => address(),
    }
}

/// The limits of each owner, in the order of their first.
fn by_owner(holding: Vec<(Owner, NamedLimit, bool)>) -> Vec<(Owner, Vec<NamedLimit>)> {
    let mut groups: Vec<(Owner, Vec<NamedLimit>)> = Vec::new();
    for (owner, named, _) in holding {
        match groups.iter_mut().find(|(held, _)| *held == owner) {
            Some((_, limits)) => limits.push(named),
            None => groups.push((owner, vec![named])),
        }
    }
    groups
}

fn request(owner: Owner, limits: &[NamedLimit], cost: u64) -> Request<'_> {
    Request { owner, limits, cost }
}

fn refusal(charged: &Charged, answers: &[Answer]) -> Option<Denial> {
    if answers.contains(&Answer::Closed) {
        return Some(Denial::Unavailable { cause: Outage::Limiter });
    }
    if answers.iter().all(Answer::admits) {
        return None;
    }
    let refusing = charged.limits.iter().zip(&charged.outcomes).filter(|(_, outcome)| !outcome.admitted);
    let waits = answers.iter().filter_map(|answer| match answer {
        Answer::Counted(decision) => Some(decision.retry_after()),
        Answer::Open | Answer::Closed => None,
    });
    Some(Denial::QuotaExceeded {
        violated: refusing.map(|(named, _)| Arc::clone(&named.name)).collect(),
        retry_after: waits.max().unwrap_or(Duration::ZERO),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn charged(older_fields: bool) -> Charged {
        let limit = Limit::new(NonZeroU64::MIN, Duration::from_secs(60));
        let named = NamedLimit { name: "burst".into(), limit };
        let clock = std::sync::Arc::new(crate::clock::ManualClock::new(crate::clock::Timestamp::UNIX_EPOCH));
        let request = request(Owner::Tenant(TenantId::NIL), std::slice::from_ref(&named), 1);
        let outcomes = crate::ratelimit::Local::new(1, clock).charge(&request).outcomes;
        Charged { limits: vec![named], outcomes, older_fields, denial: None }
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
