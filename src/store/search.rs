//! Searches of a store: the query and its result.

use super::error::StoreError;
use crate::clock::Timestamp;
use crate::id::{KeyKind, TenantId};
use crate::key::{ApiKey, KeySearch, SearchOrder, SearchPosition};
use crate::request_context::ActorScope;

/// Which keys of one kind a search returns.
#[derive(Debug, Clone)]
pub struct SearchQuery<'a> {
    /// The tenant of the keys.
    pub tenant: TenantId,
    /// The kind of the keys; that of the search is ignored.
    pub kind: KeyKind,
    /// The conditions.
    pub search: &'a KeySearch,
    /// Only keys of these actors.
    pub actors: &'a ActorScope,
    /// Only keys after this position; all if absent.
    pub after: Option<&'a SearchPosition>,
    /// Maximum number of keys.
    pub limit: u32,
    /// The time at which a key counts as active or expired.
    pub now: Timestamp,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundKeys {
    /// The keys, in the order of the search. May be fewer than the limit, or none, although there are more.
    pub keys: Vec<ApiKey>,
    /// The position from which the search continues; `None` if no keys are left.
    pub next: Option<SearchPosition>,
}

/// A row that a search read.
pub(super) struct ScannedKey {
    pub(super) key: ApiKey,
    /// Whether the conditions hold. Other rows are returned only to continue after them.
    pub(super) is_match: bool,
    /// Whether the search read no further rows.
    pub(super) is_last: bool,
}

impl SearchQuery<'_> {
    pub(super) fn order(&self) -> SearchOrder {
        self.search.order(self.actors.prefixes().is_some())
    }

    /// The result of a search that read these rows, in order and at most one more than the limit.
    pub(super) fn found(
        &self,
        rows: impl IntoIterator<Item = Result<ScannedKey, StoreError>>,
    ) -> Result<FoundKeys, StoreError> {
        let (order, limit) = (self.order(), self.limit as usize);
        let mut found = FoundKeys { keys: Vec::new(), next: None };
        for row in rows {
            let row = row?;
            if found.keys.len() == limit {
                found.next = found.keys.last().map(|last| order.position(last));
                break;
            }
            if row.is_last {
                found.next = Some(order.position(&row.key));
            }
            if row.is_match {
                found.keys.push(row.key);
            }
        }
        Ok(found)
    }
}
