//! Serialises changes of one key within this process, so that they do not make each other's store writes fail and retry. Only
//! an optimisation: the version in the store decides, because other processes change keys too.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::id::KeyId;

/// Number of locks; keys are spread over them by their ids.
const LOCKS: usize = 64;
/// How long a change waits for a lock. After that it goes ahead without.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Striped locks of keys.
pub(super) struct KeyLocks([Mutex<()>; LOCKS]);

impl KeyLocks {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Waits for the lock of a key. `None` after the timeout.
    pub(super) async fn lock(&self, id: KeyId) -> Option<MutexGuard<'_, ()>> {
        let first = match id {
            KeyId::Issued(uuid) => uuid.as_bytes()[0],
            KeyId::Imported(digest) => digest[0],
        };
        tokio::time::timeout(TIMEOUT, self.0[usize::from(first) % LOCKS].lock()).await.ok()
    }
}
