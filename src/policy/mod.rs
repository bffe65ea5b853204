//! Permissions and limits of a credential: scopes, rate limit and visibility.

use std::num::NonZeroU64;
use std::time::Duration;

/// The permissions of a key. Keeps order and duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scopes(Box<[Box<str>]>);

/// The rate limit of a key (contract, admin API section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimitPolicy {
    /// Requests per window, at most `i64::MAX`.
    pub quota: NonZeroU64,
    /// Length of the window: whole seconds, at least one.
    pub window: Duration,
}

/// Whether a key is secret or public. A public key may be embedded, for example, in a web page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Known only to its holder.
    #[default]
    Secret,
    /// May be visible to everyone.
    Public,
}

impl Scopes {
    /// Whether every scope in `required` is granted. Scopes are compared as exact strings.
    pub fn contains_all(&self, required: &[Box<str>]) -> bool {
        required.iter().all(|scope| self.0.contains(scope))
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
    fn every_required_scope_must_match_a_granted_scope_exactly() {
        let scopes: Scopes = ["read:orders", "write:orders"].into_iter().collect();
        let granted =
            |required: &[&str]| scopes.contains_all(&required.iter().map(|s| (*s).into()).collect::<Vec<_>>());
        assert!(granted(&[]));
        assert!(granted(&["read:orders"]));
        assert!(!granted(&["read:orders", "admin"]));
        assert!(!granted(&["read"]));
        assert!(!granted(&["READ:orders"]));
    }
}
