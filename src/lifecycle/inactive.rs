//! Counting inactive keys.

use super::error::LifecycleError;
use super::search::KINDS;
use super::write_side::Lifecycle;
use crate::key::{KEY_ID_MAX, KeySearch};
use crate::request_context::RequestContext;
use crate::store::{InactiveCount, InactiveQuery};

/// A request to count revoked and expired keys.
#[derive(Debug, Clone, Default)]
pub struct CountInactive {
    /// The conditions; the status is ignored.
    pub search: KeySearch,
    /// Keys whose name, actor or id begins with this text. Not together with one of these prefixes in the conditions.
    pub any_prefix: Option<String>,
}

/// A part of the keys: those of a search, without those whose name or actor begins with a text.
#[derive(Default)]
struct Part<'a> {
    search: KeySearch,
    not_name_prefix: Option<&'a str>,
    not_actor_prefix: Option<&'a str>,
}

impl Lifecycle {
    /// Counts keys that meet the conditions, are of the actors of the context, and are revoked or expired. A bounded number of keys is read.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`] for an invalid condition, or a failure of the store.
    #[doc(hidden)]
    pub async fn count_inactive(
        &self,
        context: &RequestContext,
        request: &CountInactive,
    ) -> Result<InactiveCount, LifecycleError> {
        let parts = request.parts();
        for part in &parts {
            part.search.check().map_err(|error| LifecycleError::Invalid(error.to_string()))?;
        }
        let now = self.now();
        let mut sum = InactiveCount { count: 0, is_complete: true };
        for kind in KINDS.into_iter().filter(|kind| request.search.kind.is_none_or(|wanted| wanted == *kind)) {
            for Part { search, not_name_prefix, not_actor_prefix } in &parts {
                let query = InactiveQuery {
                    tenant: context.tenant,
                    kind,
                    search,
                    not_name_prefix: *not_name_prefix,
                    not_actor_prefix: *not_actor_prefix,
                    actors: &context.actors,
                    now,
                };
                sum = sum.and(self.store.count_inactive(&query).await?);
            }
        }
        Ok(sum)
    }
}

impl CountInactive {
    /// Disjoint parts of the keys, each of which one index has.
    fn parts(&self) -> Vec<Part<'_>> {
        let Self { search, any_prefix } = self;
        let Some(text) = any_prefix.as_deref() else {
            return vec![Part { search: search.clone(), ..Part::default() }];
        };
        let prefix = any_prefix.clone();
        let mut parts = vec![
            Part { search: KeySearch { name_prefix: prefix.clone(), ..search.clone() }, ..Part::default() },
            Part {
                search: KeySearch { actor_prefix: prefix.clone(), ..search.clone() },
                not_name_prefix: Some(text),
                not_actor_prefix: None,
            },
        ];
        // A longer text is no prefix of an id.
        if text.len() <= KEY_ID_MAX {
            let search = KeySearch { key_id_prefix: prefix, ..search.clone() };
            parts.push(Part { search, not_name_prefix: Some(text), not_actor_prefix: Some(text) });
        }
        parts
    }
}
