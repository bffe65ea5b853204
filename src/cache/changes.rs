//! Notifies another part of this process of changed keys, after the caches were invalidated.

use std::sync::{Arc, OnceLock};

use super::cache_key::CacheKey;

/// Learns of changed keys. Its functions are called while a change is applied, so they must return at once.
pub trait ChangeSubscriber: Send + Sync {
    /// A key was changed, revoked or deleted. Lookups that start now find its current record.
    fn key_changed(&self, key: CacheKey);

    /// Changes were missed: any key may have changed.
    fn any_key_changed(&self);
}

/// The subscriber to the changes that [`Caches::apply`](super::Caches::apply) applies, if there is one.
#[derive(Default)]
pub struct KeyChanges(OnceLock<Arc<dyn ChangeSubscriber>>);

impl KeyChanges {
    /// Sets the subscriber. It stays the first one.
    pub fn subscribe(&self, subscriber: Arc<dyn ChangeSubscriber>) {
        // A second subscriber would be a defect of this program; the first one keeps its changes.
        let _ = self.0.set(subscriber);
    }

    pub(super) fn key_changed(&self, key: CacheKey) {
        if let Some(subscriber) = self.0.get() {
            subscriber.key_changed(key);
        }
    }

    /// Reports that changes were missed, after the caches were cleared.
    pub fn any_key_changed(&self) {
        if let Some(subscriber) = self.0.get() {
            subscriber.any_key_changed();
        }
    }
}
