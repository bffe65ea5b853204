//! [`Node`]: the status, the heartbeats and the overview of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus::Registry;
use uuid::Uuid;

use super::counts::Counts;
use super::overview::Overview;
use super::readiness::{Ages, ListenerInfo, Readiness};
use super::samples::Samples;
use super::status::{Dependencies, Health, ListedNode, NodeStatus, UpstreamReport, upstream_health};
use crate::admin::v2alpha1::key::time_text;
use crate::admin::version::Version;
use crate::clock::Timestamp;
use crate::lifecycle::Lifecycle;
use crate::store::{NodeDirectory, StoreError};

/// The time between heartbeats, and between samples of the metrics.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What a node is built from.
pub struct NodeParts {
    /// Whether the database answers.
    pub lifecycle: Arc<Lifecycle>,
    /// The directory of all nodes; `None` if this is the only one.
    pub directory: Option<Arc<dyn NodeDirectory>>,
    /// The metrics of this process.
    pub registry: Registry,
    /// The state of the upstreams; `None` without a gateway.
    pub upstream_report: Option<UpstreamReport>,
    /// The version of this process.
    pub version: Arc<Version>,
    /// The listeners of this process, which were bound just now.
    pub listeners: Vec<ListenerInfo>,
}

/// This process as a node of the installation.
pub struct Node {
    id: Uuid,
    start_time: Timestamp,
    bound: Instant,
    /// Since when the dependencies have their status.
    ages: Ages,
    parts: NodeParts,
    version: ArcSwap<Version>,
    samples: Samples,
    is_stopping: AtomicBool,
}

impl Node {
    /// A node with a new id, which starts now.
    pub fn new(parts: NodeParts) -> Self {
        let (id, start_time) = (uuid::Builder::from_random_bytes(rand::random()).into_uuid(), parts.lifecycle.now());
        let version = ArcSwap::new(Arc::clone(&parts.version));
        let (bound, ages) = (Instant::now(), Ages::default());
        let (samples, is_stopping) = (Samples::default(), AtomicBool::new(false));
        let node = Self { id, start_time, bound, ages, parts, version, samples, is_stopping };
        node.sample();
        node
    }

    /// The id, which is new at each start.
    pub(in crate::admin) fn id(&self) -> String {
        self.id.to_string()
    }

    /// The version and the hash of the configuration from now on.
    pub fn set_version(&self, version: Version) {
        self.version.store(Arc::new(version));
    }

    /// Notes that the process is about to stop: it is not ready from now on.
    pub fn set_stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Checks that the process can serve: it does not stop, its database answers, and the names of its upstreams were resolved.
    ///
    /// # Errors
    /// Why it is not ready.
    pub async fn ready(&self) -> Result<(), String> {
        if self.is_stopping() {
            return Err("the process stops".into());
        }
        self.parts.lifecycle.ready().await.map_err(|error| error.to_string())?;
        match &self.parts.upstream_report {
            Some(report) if report().is_none() => {
                Err("names of upstreams are being resolved for the first time".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the process is about to stop.
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// The dependencies and listeners of this process, each with its age.
    pub(in crate::admin) async fn readiness(&self) -> Readiness {
        let is_database_up = self.parts.lifecycle.ready().await.is_ok();
        let counts = Counts::read(&self.parts.registry);
        Readiness::new(is_database_up, &counts, &self.ages, &self.parts.listeners, (self.bound, Instant::now()))
    }

    /// Samples the metrics and sends heartbeats. Runs until it is dropped.
    pub async fn run(&self) {
        let mut is_failing = false;
        loop {
            self.sample();
            // So that a change of a status is noted when it happens, not at the next question.
            self.readiness().await;
            match self.heartbeat().await {
                Ok(()) => is_failing = false,
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    tracing::warn!(%error, "the heartbeat of this node could not be written; other nodes do not list it");
                }
                Err(_) => {}
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// Removes this node from the directory.
    pub async fn leave(&self) {
        if let Some(directory) = &self.parts.directory
            && let Err(error) = directory.leave(self.id).await
        {
            tracing::debug!(%error, "this node could not leave the directory of nodes; its entry expires");
        }
    }

    /// All nodes, and whether the list is complete. While the directory is unavailable it has this node only.
    pub(in crate::admin) async fn list(&self) -> (Vec<ListedNode>, bool) {
        let entries = async {
            match &self.parts.directory {
                Some(directory) => directory.nodes().await,
                None => Ok(Vec::new()),
            }
        };
        let (entries, status) = tokio::join!(entries, self.status());
        let is_complete = entries.is_ok();
        let mut nodes = vec![ListedNode::new(self.id(), true, None, status)];
        for entry in entries.unwrap_or_default() {
            if entry.node == self.id {
                nodes[0].heartbeat_time = Some(time_text(entry.heartbeat_time));
            } else if let Ok(status) = serde_json::from_str(&entry.status) {
                nodes.push(ListedNode::new(entry.node.to_string(), false, Some(entry.heartbeat_time), status));
            }
        }
        (nodes, is_complete)
    }

    /// The overview of this node.
    pub(in crate::admin) fn overview(&self) -> Overview {
        let (now, counts) = (Instant::now(), Counts::read(&self.parts.registry));
        let first = self.samples.first().unwrap_or_else(|| (now, Counts::default()));
        Overview::new(now, &counts, &first)
    }

    fn sample(&self) {
        self.samples.add(Instant::now(), Counts::read(&self.parts.registry));
    }

    async fn heartbeat(&self) -> Result<(), StoreError> {
        let Some(directory) = &self.parts.directory else { return Ok(()) };
        let status = self.status().await.text().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        directory.heartbeat(self.id, &status).await
    }

    async fn status(&self) -> NodeStatus {
        let counts = Counts::read(&self.parts.registry);
        let report = self.parts.upstream_report.as_ref();
        let version = self.version.load();
        NodeStatus {
            version: version.version.clone(),
            commit: version.commit.clone(),
            start_time: time_text(self.start_time),
            config_hash: version.config_hash.clone(),
            feed_age_seconds: counts.feed_age,
            dependencies: Dependencies {
                database: Health::of(self.parts.lifecycle.ready().await.is_ok()),
                redis: counts.is_redis_connected.map(Health::of),
                upstreams: report.and_then(|report| report()).as_ref().map(upstream_health).unwrap_or_default(),
            },
        }
    }
}
