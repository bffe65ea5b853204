//! What a credential may do. Knows no key, no clock and no storage.

use std::num::NonZeroU64;
use std::time::Duration;

/// Permissions of a key, in the order they were granted, duplicates kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scopes(Box<[Box<str>]>);

/// How many requests a key may make in a time window (contract, admin API section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimitPolicy {
    /// Requests in one window; at most `i64::MAX`.
    pub quota: NonZeroU64,
    /// The window, whole seconds, at least one.
    pub window: Duration,
}

/// Whether a key is meant to be kept secret or to be shown, for example in a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Kept by its owner.
    #[default]
    Secret,
    /// May be seen by anybody.
    Public,
}

impl Scopes {
    /// Whether every scope in `demanded` was granted, compared exactly.
    pub fn contains_all(&self, demanded: &[Box<str>]) -> bool {
        demanded.iter().all(|scope| self.0.contains(scope))
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// The scopes in order.
    pub fn as_slice(&self) -> &[Box<str>] {
        &self.0
    }
}

impl<T: Into<Box<str>>> FromIterator<T> for Scopes {
    fn from_iter<I: IntoIterator<Item = T>>(scopes: I) -> Self {
        Self(scopes.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_demanded_scope_must_be_granted_exactly() {
        let scopes: Scopes = ["read:orders", "write:orders"].into_iter().collect();
        let demand = |wanted: &[&str]| scopes.contains_all(&wanted.iter().map(|s| (*s).into()).collect::<Vec<_>>());
        assert!(demand(&[]));
        assert!(demand(&["read:orders"]));
        assert!(!demand(&["read:orders", "admin"]));
        assert!(!demand(&["read"]));
        assert!(!demand(&["READ:orders"]));
    }
}
