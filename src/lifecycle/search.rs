//! Searching keys of both kinds.

use super::error::LifecycleError;
use super::list::{Page, page_size};
use super::write_side::Lifecycle;
use crate::id::KeyKind;
use crate::key::{ApiKey, KeySearch, SearchPosition, open_search_token, seal_search_token};
use crate::request_context::RequestContext;
use crate::store::{FoundKeys, SearchQuery};

/// The kinds in the order of a search.
pub(super) const KINDS: [KeyKind; 2] = [KeyKind::Issued, KeyKind::Imported];

/// A request for a page of a search.
#[derive(Debug, Clone, Default)]
pub struct SearchKeys {
    /// 0 to 1000; 0 means 50.
    pub page_size: u32,
    /// The token that the previous page returned; empty for the first page. The conditions must be those of the previous page.
    pub page_token: String,
    /// The conditions.
    pub search: KeySearch,
}

impl Lifecycle {
    /// Returns a page of keys that meet the conditions and are of the actors of the context: first issued keys, then imported ones, each in
    /// the order of the search. A page may have fewer keys than its size, or none, although it is not the last one.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`] for an invalid size, token or condition, or a failure of the store.
    pub async fn search(&self, context: &RequestContext, request: &SearchKeys) -> Result<Page, LifecycleError> {
        let search = &request.search;
        search.check().map_err(|error| LifecycleError::Invalid(error.to_string()))?;
        let size = page_size(request.page_size)? as usize;
        let (now, order) = (self.now(), search.order(context.actors.prefixes().is_some()));
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(open_search_token(token, &self.settings.keyring, (context.tenant, order), now)?),
        };
        let first = after.as_ref().map_or(KINDS[0], |after| after.id.kind());
        let kinds = KINDS.into_iter().skip_while(|kind| *kind != first);
        let mut keys: Vec<ApiKey> = Vec::new();
        let mut next = None;
        for kind in kinds.filter(|kind| search.kind.is_none_or(|wanted| wanted == *kind)) {
            let free = size - keys.len();
            let query = SearchQuery {
                tenant: context.tenant,
                kind,
                search,
                actors: &context.actors,
                after: after.as_ref().filter(|after| after.id.kind() == kind),
                // A full page still has to show whether there is another one.
                limit: u32::try_from(free.max(1)).unwrap_or(u32::MAX),
                now,
            };
            let mut found = self.store.search(&query).await?;
            if free == 0 && !found.keys.is_empty() {
                found = FoundKeys { next: keys.last().map(|last| order.position(last)), keys: Vec::new() };
            }
            keys.extend(found.keys);
            next = found.next;
            if next.is_some() {
                break;
            }
        }
        let seal = |next: &SearchPosition| {
            seal_search_token((context.tenant, order, next), &self.settings.keyring, now, &mut *self.rng())
        };
        Ok(Page { keys, next_page_token: next.as_ref().map(seal).unwrap_or_default() })
    }
}
