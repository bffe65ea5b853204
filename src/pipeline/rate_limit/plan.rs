//! Which limits are charged together, computed when the snapshot is built.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::CountBy;
use crate::id::TenantId;
use crate::policy::RateLimitPolicy;
use crate::ratelimit::{BucketOwner, Charge, NamedLimit};
use crate::verifier::Verdict;
use crate::wire::ratelimit::policy;

/// The caller that a request is charged to.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The verdict about the credential; `None` for an anonymous request.
    pub verdict: Option<&'a Verdict>,
    /// The limit of the key itself.
    pub key_limit: Option<RateLimitPolicy>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
}

/// One limit of the configuration, or of a key.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) named: NamedLimit,
    pub(super) count_by: CountBy,
    /// The limit is counted and reported but never rejects.
    pub(super) dry_run: bool,
}

/// The limits that apply to callers of one kind, grouped by bucket owner: the enforced groups first, then the dry-run groups.
#[derive(Debug)]
pub(super) struct Plan {
    groups: Box<[Group]>,
    enforced: usize,
    policy: Option<HeaderValue>,
}

/// The limits of one bucket owner.
#[derive(Debug)]
pub(super) struct Group {
    count_by: CountBy,
    limits: Box<[NamedLimit]>,
}

impl Rule {
    /// The rule for anonymous requests, which have no key and no actor and are counted by address.
    pub(super) fn anonymous(self) -> Self {
        let count_by = if self.count_by == CountBy::Tenant { CountBy::Tenant } else { CountBy::Address };
        Self { count_by, ..self }
    }
}

impl Plan {
    pub(super) fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let (dry_run, enforced): (Vec<_>, Vec<_>) = rules.into_iter().partition(|rule| rule.dry_run);
        let mut groups = group(&enforced);
        let enforced = groups.len();
        groups.extend(group(&dry_run));
        let policy = policy(groups.iter().flat_map(|group| &group.limits));
        Self { groups: groups.into(), enforced, policy }
    }

    /// All groups, by the indexes that [`Plan::enforced`] and [`Plan::dry_run`] return.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The groups that may reject, with their indexes.
    pub(super) fn enforced(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.groups[..self.enforced].iter().enumerate()
    }

    /// Whether the group with this index may reject.
    pub(super) fn is_enforced(&self, index: usize) -> bool {
        index < self.enforced
    }

    /// The groups that never reject, with their indexes.
    pub(super) fn dry_run(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.groups.iter().enumerate().skip(self.enforced)
    }

    /// All limits as the value of `RateLimit-Policy`; `None` without limits.
    pub(super) fn policy(&self) -> Option<&HeaderValue> {
        self.policy.as_ref()
    }
}

impl Group {
    /// The limits.
    pub(super) fn limits(&self) -> &[NamedLimit] {
        &self.limits
    }

    /// The charge for a caller; `None` if the limits count by an address that is not known.
    pub(super) fn charge(&self, caller: &Caller<'_>, cost: u64) -> Option<Charge<'_>> {
        let owner = bucket_owner(self.count_by, caller)?;
        Some(Charge { owner, limits: &self.limits, cost })
    }
}

/// Groups rules by bucket owner, in the order in which the owners first occur.
fn group(rules: &[&Rule]) -> Vec<Group> {
    let mut groups: Vec<(CountBy, Vec<NamedLimit>)> = Vec::new();
    for rule in rules {
        let named = NamedLimit { name: Arc::clone(&rule.named.name), limit: rule.named.limit };
        match groups.iter_mut().find(|(count_by, _)| *count_by == rule.count_by) {
            Some((_, limits)) => limits.push(named),
            None => groups.push((rule.count_by, vec![named])),
        }
    }
    groups.into_iter().map(|(count_by, limits)| Group { count_by, limits: limits.into() }).collect()
}

/// The owner of the buckets; anonymous requests count by address.
fn bucket_owner(count_by: CountBy, caller: &Caller<'_>) -> Option<BucketOwner> {
    match (count_by, caller.verdict) {
        (CountBy::Tenant, _) => Some(BucketOwner::Tenant(caller.tenant)),
        (CountBy::Key, Some(verdict)) => Some(BucketOwner::Key(caller.tenant, verdict.key_id())),
        (CountBy::Actor, Some(verdict)) => Some(BucketOwner::actor(caller.tenant, verdict.actor_id())),
        (CountBy::Address, _) | (_, None) => caller.client_ip.map(|ip| BucketOwner::Address(caller.tenant, ip)),
    }
}
