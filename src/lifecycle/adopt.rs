//! Adopting keys of another installation. They keep their ids, times and states, so that their secrets stay valid.

use std::collections::HashMap;

use super::error::LifecycleError;
use super::log::log_change;
use super::write_side::Lifecycle;
use crate::audit::changed;
use crate::cache::Invalidation;
use crate::id::KeyId;
use crate::key::{ApiKey, PageTokenOrigin, page_token_origin};
use crate::request_context::RequestContext;

/// What to do with keys of another installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptMode {
    /// Adds the keys that are not stored.
    Write,
    /// Writes nothing.
    Compare,
}

/// The result for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopted {
    /// The key was added, or would be.
    Added,
    /// The same key is stored.
    Present,
    /// A key with this id is stored, and these members of it have other values.
    Differs(Vec<String>),
}

impl Lifecycle {
    /// Adds the keys whose ids are free, in one transaction, and compares the others with the stored ones; nothing that is stored is
    /// changed. The use and the version of a key are not compared. Neither the limits of new keys nor the quota apply.
    ///
    /// # Errors
    /// A failure of the store; then nothing is added.
    #[doc(hidden)]
    pub async fn adopt(
        &self,
        context: &RequestContext,
        keys: &[ApiKey],
        mode: AdoptMode,
    ) -> Result<Vec<Adopted>, LifecycleError> {
        let added = match mode {
            AdoptMode::Write if !keys.is_empty() => self.store.insert_many(context, keys).await?,
            AdoptMode::Write | AdoptMode::Compare => vec![false; keys.len()],
        };
        let others: Vec<_> =
            keys.iter().zip(&added).filter(|(_, added)| !**added).map(|(key, _)| (key.tenant, key.id)).collect();
        let stored = if others.is_empty() { Vec::new() } else { self.store.find_many(&others).await? };
        let stored: HashMap<KeyId, ApiKey> = stored.into_iter().map(|key| (key.id, key)).collect();
        for (key, _) in keys.iter().zip(&added).filter(|(_, added)| **added) {
            self.caches.apply(&Invalidation::of_record(key), self.now()).await;
        }
        let count = keys.len() - others.len();
        log_change!(context, adopted = count, of = keys.len(), "keys of another installation adopted");
        let outcome = |(key, added): (&ApiKey, bool)| match stored.get(&key.id) {
            Some(stored) if !added => compare(stored, key),
            // It was stored at the insert, and was deleted before the lookup.
            None if !added && mode == AdoptMode::Write => Adopted::Differs(vec!["deleted meanwhile".into()]),
            _ => Adopted::Added,
        };
        Ok(keys.iter().zip(added).map(outcome).collect())
    }

    /// Says whether the installation that made a page token has an HMAC secret of this one.
    #[doc(hidden)]
    pub fn origin_of_page_token(&self, context: &RequestContext, token: &str) -> PageTokenOrigin {
        page_token_origin(token, &self.settings.keyring, context.tenant, self.now())
    }
}

fn compare(stored: &ApiKey, key: &ApiKey) -> Adopted {
    let (before, after) = changed(stored, key);
    let mut names: Vec<String> = before.into_iter().chain(after).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { Adopted::Present } else { Adopted::Differs(names) }
}
