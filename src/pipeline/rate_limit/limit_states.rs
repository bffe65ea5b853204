//! The states of the limits that a request was charged to, for the principal that the layer gives to services.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::plan::Plan;
use crate::ratelimit::{NamedLimit, Outcomes};

/// The states of the limits that a request was charged to. Smaller than its outcome.
#[derive(Debug, Clone, Default)]
pub(crate) struct LimitStates {
    /// `None` without a limit.
    plan: Option<Arc<Plan>>,
    /// Most requests have one or two limits.
    states: SmallVec<[LimitState; 2]>,
}

/// The state of a limit after a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitState {
    /// The group and the limit in it, by index.
    place: (u16, u16),
    /// Requests that the limit would admit now.
    pub(crate) remaining: u64,
    /// The time until the quota is replenished completely.
    pub(crate) reset: Duration,
}

impl LimitStates {
    /// The states of the groups of a plan that were counted, by index.
    pub(super) fn new(plan: Option<Arc<Plan>>, counted: &[(usize, Outcomes)]) -> Self {
        let place = |group: usize, limit: usize| Some((u16::try_from(group).ok()?, u16::try_from(limit).ok()?));
        let states = counted.iter().flat_map(|(group, outcomes)| {
            outcomes.iter().enumerate().filter_map(move |(limit, outcome)| {
                let (remaining, reset) = (outcome.remaining, outcome.reset());
                Some(LimitState { place: place(*group, limit)?, remaining, reset })
            })
        });
        Self { plan, states: states.collect() }
    }

    /// The limits and their states.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NamedLimit, &LimitState)> {
        let groups = self.plan.as_ref().map_or(&[][..], |plan| plan.groups());
        self.states.iter().filter_map(|state| {
            let (group, limit) = state.place;
            Some((groups.get(usize::from(group))?.limits().get(usize::from(limit))?, state))
        })
    }
}
