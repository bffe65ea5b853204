//! The feed of changes: what nodes follow to keep their caches true.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};

/// The changes that a store's users have made, for as long as the store keeps them.
///
/// A reader begins at [`ChangeFeed::position`], reads what comes after, and goes on where it stopped. Every change
/// committed after the position is read exactly once. Two changes may be read in another order than they were made in: of
/// two for one key, the one with the higher version counts, and a deletion counts more than anything of its version.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// The position behind all that has been committed.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn position(&self) -> Result<Position, StoreError>;

    /// What was committed after a position, at most `limit` changes of it, and at least one if there is any. `None` when that is not known in full any
    /// more, because some of it was pruned or the database is another one: then all that depends on the feed has to be
    /// forgotten, and the reader begins anew.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell; the position stays good.
    async fn changes_after(&self, position: &Position, limit: u32) -> Result<Option<Changes>, StoreError>;

    /// The changes of the last `within`, and perhaps some before, the latest first; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn recent(&self, within: Duration, limit: u32) -> Result<Vec<Change>, StoreError>;

    /// Takes out changes that everybody could read for at least `older_than`, a bounded number of them; tells how many. Call it
    /// now and then, a few times within `older_than`: it learns from earlier calls what is that old.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known what was taken out.
    async fn prune(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Begins to listen for changes.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot listen.
    async fn listen(&self) -> Result<Box<dyn ChangeListener>, StoreError>;
}

/// Wakes a reader of the feed, most of the time: a reader has to look now and then without being woken, too.
#[async_trait]
pub trait ChangeListener: Send {
    /// Waits until there may be changes. May be abandoned at any time.
    ///
    /// # Errors
    /// [`StoreError`] when it can listen no longer; the next call begins to listen again.
    async fn woken(&mut self) -> Result<(), StoreError>;
}

/// A place in the feed. Means something only to the store that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(pub(super) String);

#[cfg(test)]
impl Position {
    /// A place in a feed that is made up.
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What came after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The changes.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub position: Position,
    /// Whether there may be more already: read on without waiting.
    pub more: bool,
    /// When they were read, by the clock that stamped them.
    pub read_time: Timestamp,
}

/// A change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Whose key.
    pub tenant: TenantId,
    /// Which key.
    pub id: KeyId,
    /// What happened.
    pub kind: ChangeKind,
    /// The key's version after it; the last version of a deleted key.
    pub version: u64,
    /// Shortly before it was committed, by the database's clock.
    pub time: Timestamp,
}

/// What happens to keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was issued.
    Issue,
    /// It was imported.
    Import,
    /// Some of its fields have new values.
    Update,
    /// It was revoked because another key took its place.
    Rotate,
    /// It was revoked.
    Revoke,
    /// It is gone.
    Delete,
    /// It was taken out long after its end: it is gone, and its tokens had ended before or are known to have.
    Purge,
}

impl ChangeKind {
    /// The name in the table of changes.
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

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Issue, Self::Import, Self::Update, Self::Rotate, Self::Revoke, Self::Delete, Self::Purge]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Whether there is no such key any more.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Delete | Self::Purge)
    }
}
