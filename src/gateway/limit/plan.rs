//! Which limits are charged together, worked out before any request.

use std::sync::Arc;

use http::HeaderValue;

use super::Caller;
use crate::config::CountBy;
use crate::ratelimit::{BucketOwner, Charge, NamedLimit};
use crate::wire::ratelimit::policy;

/// One limit of the configuration, or of a key.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) named: NamedLimit,
    pub(super) count_by: CountBy,
    /// Refuses nobody.
    pub(super) is_tried: bool,
}

/// All limits that hold for callers of one kind, those of one owner together, in the order of their first.
#[derive(Debug)]
pub(super) struct Plan {
    enforced: Box<[Group]>,
    tried: Box<[Group]>,
    policy: Option<HeaderValue>,
}

/// The limits of one owner.
#[derive(Debug)]
pub(super) struct Group {
    count_by: CountBy,
    limits: Box<[NamedLimit]>,
}

impl Rule {
    /// The same for requests of nobody in particular, which count by address.
    pub(super) fn of_nobody(self) -> Self {
        let count_by = if self.count_by == CountBy::Tenant { CountBy::Tenant } else { CountBy::Address };
        Self { count_by, ..self }
    }
}

impl Plan {
    pub(super) fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let (tried, enforced): (Vec<_>, Vec<_>) = rules.into_iter().partition(|rule| rule.is_tried);
        let (enforced, tried) = (groups(&enforced), groups(&tried));
        let policy = policy(enforced.iter().chain(&tried).flat_map(|group| &group.limits));
        Self { enforced, tried, policy }
    }

    /// What may refuse.
    pub(super) fn enforced(&self) -> impl Iterator<Item = &Group> {
        self.enforced.iter()
    }

    /// What refuses nobody.
    pub(super) fn tried(&self) -> impl Iterator<Item = &Group> {
        self.tried.iter()
    }

    /// How many owners' limits there are.
    pub(super) fn len(&self) -> usize {
        self.enforced.len() + self.tried.len()
    }

    /// All limits as a field value; none without limits.
    pub(super) fn policy(&self) -> Option<&HeaderValue> {
        self.policy.as_ref()
    }
}

impl Group {
    /// What a caller is charged here; nothing where limits count by an address that is not known.
    pub(super) fn request(&self, caller: &Caller<'_>, cost: u64) -> Option<Charge<'_>> {
        let owner = bucket_owner(self.count_by, caller)?;
        Some(Charge { owner, limits: &self.limits, cost })
    }
}

fn groups(rules: &[&Rule]) -> Box<[Group]> {
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

/// Whose bucket; requests of nobody in particular count by address.
fn bucket_owner(count_by: CountBy, caller: &Caller<'_>) -> Option<BucketOwner> {
    match (count_by, caller.verdict) {
        (CountBy::Tenant, _) => Some(BucketOwner::Tenant(caller.tenant)),
        (CountBy::Key, Some(verdict)) => Some(BucketOwner::Key(caller.tenant, verdict.key_id())),
        (CountBy::Actor, Some(verdict)) => Some(BucketOwner::actor(caller.tenant, verdict.actor_id())),
        (CountBy::Address, _) | (_, None) => caller.peer.map(|peer| BucketOwner::Address(caller.tenant, peer)),
    }
}
