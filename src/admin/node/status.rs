//! What a node says about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::admin::v2alpha1::key::time_text;
use crate::clock::Timestamp;

/// The maximum length of a status in bytes. The upstreams of a longer one are left out.
const STATUS_MAX: usize = 65_536;

/// Returns the state of the gateway's upstreams: by upstream and endpoint; `None` until their names were resolved for the first time.
pub type UpstreamReport = Arc<dyn Fn() -> Option<Value> + Send + Sync>;

/// What a node says about itself in its heartbeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct NodeStatus {
    pub(super) version: String,
    pub(super) commit: String,
    #[schema(format = DateTime)]
    pub(super) start_time: String,
    /// A hash of the configuration without its secrets.
    pub(super) config_hash: String,
    /// The time since the node last had all changes of keys; absent if it is the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) feed_age_seconds: Option<f64>,
    pub(super) dependencies: Dependencies,
}

/// The servers that a node needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct Dependencies {
    pub(super) database: Health,
    /// Absent if Redis is not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) redis: Option<Health>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) upstreams: BTreeMap<String, UpstreamHealth>,
}

/// Whether a server can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    Ok,
    Unavailable,
}

/// The endpoints of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct UpstreamHealth {
    endpoints: usize,
    /// Those that are healthy and not ejected.
    available: usize,
}

/// A node in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node)]
pub(in crate::admin) struct ListedNode {
    pub(super) node_id: String,
    /// Whether it is the node that made the list.
    pub(super) is_this_node: bool,
    /// Its last heartbeat; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    pub(super) heartbeat_time: Option<String>,
    #[serde(flatten)]
    pub(super) status: NodeStatus,
}

impl NodeStatus {
    /// The text of a heartbeat, of a bounded length.
    pub(super) fn text(&self) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        if text.len() <= STATUS_MAX {
            return Ok(text);
        }
        let dependencies = Dependencies { upstreams: BTreeMap::new(), ..self.dependencies.clone() };
        serde_json::to_string(&Self { dependencies, ..self.clone() })
    }
}

impl Health {
    pub(super) fn of(is_ok: bool) -> Self {
        if is_ok { Self::Ok } else { Self::Unavailable }
    }
}

impl ListedNode {
    pub(super) fn new(node_id: String, is_this_node: bool, heartbeat: Option<Timestamp>, status: NodeStatus) -> Self {
        Self { node_id, is_this_node, heartbeat_time: heartbeat.map(time_text), status }
    }
}

/// The endpoints of each upstream in a report of the gateway.
pub(super) fn upstream_health(report: &Value) -> BTreeMap<String, UpstreamHealth> {
    let health = |(name, endpoints): (&String, &Value)| {
        let endpoints: Vec<_> = endpoints.as_object().into_iter().flat_map(|endpoints| endpoints.values()).collect();
        let available = endpoints.iter().filter(|state| state["healthy"] == true && state["ejected"] != true).count();
        (name.clone(), UpstreamHealth { endpoints: endpoints.len(), available })
    };
    report.as_object().into_iter().flatten().map(health).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(upstreams: usize) -> NodeStatus {
        let report: serde_json::Map<_, _> = (0..upstreams)
            .map(|number| (format!("upstream {number}"), json!({"http://a:1": {"healthy": true}})))
            .collect();
        let upstreams = upstream_health(&Value::Object(report));
        let dependencies = Dependencies { database: Health::Ok, redis: None, upstreams };
        let text = || "x".to_owned();
        NodeStatus {
            version: text(),
            commit: text(),
            start_time: text(),
            config_hash: text(),
            feed_age_seconds: None,
            dependencies,
        }
    }

    #[test]
    fn status_is_read_back_and_bounded() {
        let small = status(2);
        assert_eq!(serde_json::from_str::<NodeStatus>(&small.text().unwrap()).unwrap(), small);
        let text = status(5000).text().unwrap();
        assert!(text.len() <= STATUS_MAX && !text.contains("upstream"), "{} bytes", text.len());
    }

    #[test]
    fn available_endpoints_are_healthy_and_not_ejected() {
        let report = json!({"orders": {
            "a": {"healthy": true, "ejected": false}, "b": {"healthy": true, "ejected": true}, "c": {"healthy": false, "ejected": false}
        }});
        assert_eq!(upstream_health(&report)["orders"], UpstreamHealth { endpoints: 3, available: 1 });
    }
}
