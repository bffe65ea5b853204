//! The directory of the nodes that share a database.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::error::StoreError;
use crate::clock::Timestamp;

/// How long a node is listed after its last heartbeat.
pub const NODE_LIFETIME: Duration = Duration::from_secs(20);

/// The nodes that share a database. Each node writes only its own entry.
#[async_trait]
pub trait NodeDirectory: Send + Sync {
    /// Writes the entry of a node with the current time of the database, and removes entries that are older than [`NODE_LIFETIME`].
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the entry was written.
    async fn heartbeat(&self, node: Uuid, status: &str) -> Result<(), StoreError>;

    /// Removes the entry of a node that stops.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the entry was removed. It then expires.
    async fn leave(&self, node: Uuid) -> Result<(), StoreError>;

    /// Returns the entries that are not older than [`NODE_LIFETIME`], by id, at most 1000.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn nodes(&self) -> Result<Vec<NodeEntry>, StoreError>;
}

/// The entry of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The node.
    pub node: Uuid,
    /// Its last heartbeat, by the clock of the database.
    pub heartbeat_time: Timestamp,
    /// What the node said about itself.
    pub status: String,
}
