//! The feed of changes, which nodes follow to keep their caches consistent with the database.

use std::time::Duration;

use async_trait::async_trait;

use super::error::StoreError;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};

/// The changes of keys that were committed, in a log with limited retention.
///
/// A reader starts at [`ChangeFeed::position`] and continues from the position that each read returns. It reads every change
/// that commits after its position exactly once. The order may differ from the order of the commits: of two changes of one
/// key, the higher version is the later one, and a deletion is later than another change of the same version.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// Returns the position after all committed changes.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn position(&self) -> Result<Position, StoreError>;

    /// Returns changes that were committed after a position: at most `limit`, and at least one if there is any. `None` if
    /// some of them were pruned, or if the position is from another database: then the reader must discard all state that
    /// it derived from the feed and start again.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer; the position stays valid.
    async fn changes_after(&self, position: &Position, limit: u32) -> Result<Option<Changes>, StoreError>;

    /// Returns the changes of the last `within`, and possibly some older ones, the latest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn recent(&self, within: Duration, limit: u32) -> Result<Vec<Change>, StoreError>;

    /// Removes changes that have been readable for at least `older_than`, a bounded number per call. Returns how many. Must be
    /// called several times within `older_than`: each call leaves a mark by which later ones find changes of that age.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known what was removed.
    async fn prune(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Starts to listen for changes.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot listen.
    async fn listen(&self) -> Result<Box<dyn ChangeListener>, StoreError>;
}

/// Wakes a reader of the feed. Notifications may be lost, so a reader must also poll.
#[async_trait]
pub trait ChangeListener: Send {
    /// Waits until there may be changes. Cancel safe.
    ///
    /// # Errors
    /// [`StoreError`] when the connection is lost; the next call connects again.
    async fn woken(&mut self) -> Result<(), StoreError>;
}

/// A position in the feed of the store that returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(pub(super) String);

#[cfg(test)]
impl Position {
    /// An arbitrary position.
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Changes after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The changes.
    pub changes: Vec<Change>,
    /// The position after them.
    pub position: Position,
    /// Whether more changes may be available: read again without waiting.
    pub more: bool,
    /// When they were read, by the database's clock.
    pub read_time: Timestamp,
}

/// A change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The key.
    pub id: KeyId,
    /// The kind of change.
    pub kind: ChangeKind,
    /// The version of the key after the change; of a deleted key, its last version.
    pub version: u64,
    /// Shortly before the commit, by the database's clock.
    pub time: Timestamp,
    /// When the key counts as revoked, if the change is a rotation that replaced it and left it active until then.
    pub revoke_time: Option<Timestamp>,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The key was issued.
    Issue,
    /// The key was imported.
    Import,
    /// Fields of the key have new values.
    Update,
    /// The key was revoked because a new key replaces it. A key that stays active for a time is updated.
    Rotate,
    /// The key was revoked.
    Revoke,
    /// The key was deleted.
    Delete,
    /// The key was deleted some time after its expiry. Its derived tokens have expired as well, or it was revoked before.
    Purge,
}

impl ChangeKind {
    /// The name in the table `changes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Import => "import",
            Self::Update => "update",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Delete => "delete",
            Self::Purge => "purge",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Issue, Self::Import, Self::Update, Self::Rotate, Self::Revoke, Self::Delete, Self::Purge]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}
