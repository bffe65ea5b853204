//! The actors whose keys a request may name.

use std::sync::Arc;

/// The actors whose keys a request may read and write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ActorScope {
    /// Every actor.
    #[default]
    All,
    /// Actors whose id starts with one of these prefixes, which are compared byte by byte. An empty list allows no actor.
    Prefixes(Arc<[Box<str>]>),
}

impl ActorScope {
    /// The scope of a list of prefixes. An empty list is every actor.
    pub fn of_prefixes<T: Into<Box<str>>>(prefixes: impl IntoIterator<Item = T>) -> Self {
        let prefixes: Arc<[Box<str>]> = prefixes.into_iter().map(Into::into).collect();
        if prefixes.is_empty() { Self::All } else { Self::Prefixes(prefixes) }
    }

    /// Whether keys of an actor may be read and written.
    pub fn allows(&self, actor_id: &str) -> bool {
        self.prefixes().is_none_or(|prefixes| prefixes.iter().any(|prefix| actor_id.starts_with(&**prefix)))
    }

    /// The prefixes; `None` for every actor.
    pub fn prefixes(&self) -> Option<&[Box<str>]> {
        match self {
            Self::All => None,
            Self::Prefixes(prefixes) => Some(prefixes),
        }
    }

    /// Whether every actor of `other` is also one of this scope.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Prefixes(_), Self::All) => false,
            (Self::Prefixes(_), Self::Prefixes(others)) => others.iter().all(|prefix| self.allows(prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_allows_the_actors_that_start_with_it() {
        let bound = ActorScope::of_prefixes(["team-a/", "ops"]);
        for (actor, is_allowed) in [
            ("team-a/x", true),
            ("team-a/", true),
            ("ops", true),
            ("ops-2", true),
            ("team-a", false),
            ("Team-a/x", false),
        ] {
            assert_eq!(bound.allows(actor), is_allowed, "{actor}");
            assert!(ActorScope::All.allows(actor));
        }
        assert!(!ActorScope::Prefixes([].into()).allows("ops"));
    }

    #[test]
    fn scope_contains_narrower_scopes_only() {
        let bound = ActorScope::of_prefixes(["team-a/", "ops"]);
        for (other, is_contained) in [
            (ActorScope::of_prefixes(["team-a/x"]), true),
            (ActorScope::of_prefixes(["ops", "team-a/"]), true),
            (ActorScope::of_prefixes(["team-a/", "team-b/"]), false),
            (ActorScope::of_prefixes(["team"]), false),
            (ActorScope::All, false),
        ] {
            assert_eq!(bound.contains(&other), is_contained, "{other:?}");
            assert!(ActorScope::All.contains(&other));
        }
    }
}
