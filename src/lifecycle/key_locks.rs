//! KeyLocks: changes of one key in this process go one after the other, so that they do not undo each other's attempts in the
//! store. A courtesy only: what decides is the version in the store, which other processes change too.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::id::KeyId;

/// How many keys can be changed at once, if they fall on different key_locks.
const TURNS: usize = 64;
/// How long a change waits for the one before; then it tries its luck.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct KeyLocks([Mutex<()>; TURNS]);

impl KeyLocks {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Waits for the change that is under way; the next one waits until the result is dropped.
    pub(super) async fn of(&self, id: KeyId) -> Option<MutexGuard<'_, ()>> {
        let first = match id {
            KeyId::Issued(uuid) => uuid.as_bytes()[0],
            KeyId::Imported(digest) => digest[0],
        };
        tokio::time::timeout(PATIENCE, self.0[usize::from(first) % TURNS].lock()).await.ok()
    }
}
