//! The endpoints that a request has tried.

use smallvec::SmallVec;

/// The endpoints that a request has tried, by their index in the set of endpoints.
#[derive(Debug, Default)]
pub(super) struct Tried(SmallVec<[(usize, Retriable); 4]>);

/// Whether a request may try an endpoint again, once no other is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retriable {
    /// The connection was a pooled one and turned out closed: a new one may work.
    Yes,
    /// The endpoint itself has failed.
    No,
}

/// What a request may try next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// Endpoints that it has not tried and that are neither ejected nor unhealthy.
    Available,
    /// Endpoints that it has not tried.
    Untried,
    /// Endpoints that it may try again.
    Again,
}

impl Tier {
    /// The tiers in the order in which they are tried.
    pub(super) const ALL: [Self; 3] = [Self::Available, Self::Untried, Self::Again];
}

impl Tried {
    /// Notes a try.
    pub(super) fn add(&mut self, index: usize, retriable: Retriable) {
        match self.0.iter_mut().find(|(tried, _)| *tried == index) {
            Some(entry) => entry.1 = retriable,
            None => self.0.push((index, retriable)),
        }
    }

    /// Whether the request has tried no endpoint yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the endpoint at an index belongs to a tier.
    pub(super) fn is_in(&self, tier: Tier, index: usize, is_available: impl FnOnce() -> bool) -> bool {
        let tried = self.0.iter().find(|(tried, _)| *tried == index);
        match tier {
            Tier::Available => tried.is_none() && is_available(),
            Tier::Untried => tried.is_none(),
            Tier::Again => tried.is_some_and(|(_, retriable)| *retriable == Retriable::Yes),
        }
    }

    /// Whether one of `count` endpoints may still be tried.
    pub(super) fn leaves_one_of(&self, count: usize) -> bool {
        self.0.len() < count || self.0.iter().any(|(_, retriable)| *retriable == Retriable::Yes)
    }
}
