//! The directory of nodes.

use async_trait::async_trait;
use sqlx::query_as;
use uuid::Uuid;

use super::pool::Access;
use super::store::PostgresStore;
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::node_directory::{NODE_LIFETIME, NodeDirectory, NodeEntry};

/// Rows that another node is writing are skipped: two nodes that remove each other's old entries do not wait for each other.
const HEARTBEAT: &str = "WITH expired AS (DELETE FROM nodes WHERE node_id IN (SELECT node_id FROM nodes \
     WHERE heartbeat_time < now() - make_interval(secs => $3) AND node_id <> $1 FOR UPDATE SKIP LOCKED)) \
     INSERT INTO nodes (node_id, heartbeat_time, status) VALUES ($1, now(), $2::json) \
     ON CONFLICT (node_id) DO UPDATE SET heartbeat_time = excluded.heartbeat_time, status = excluded.status RETURNING 1";
const LEAVE: &str = "DELETE FROM nodes WHERE node_id = $1 RETURNING 1";
const NODES: &str = "SELECT node_id, heartbeat_time, status::text FROM nodes \
     WHERE heartbeat_time >= now() - make_interval(secs => $1) ORDER BY node_id LIMIT 1000";

#[async_trait]
impl NodeDirectory for PostgresStore {
    async fn heartbeat(&self, node: Uuid, status: &str) -> Result<(), StoreError> {
        let query = || query_as::<_, (i32,)>(HEARTBEAT).bind(node).bind(status).bind(NODE_LIFETIME.as_secs_f64());
        self.connections.rows(Access::Write, query).await.map(drop)
    }

    async fn leave(&self, node: Uuid) -> Result<(), StoreError> {
        self.connections.rows(Access::Write, || query_as::<_, (i32,)>(LEAVE).bind(node)).await.map(drop)
    }

    async fn nodes(&self) -> Result<Vec<NodeEntry>, StoreError> {
        let query = || query_as::<_, (Uuid, Timestamp, String)>(NODES).bind(NODE_LIFETIME.as_secs_f64());
        let rows = self.connections.rows(Access::Read, query).await?;
        Ok(rows.into_iter().map(|(node, heartbeat_time, status)| NodeEntry { node, heartbeat_time, status }).collect())
    }
}
