//! Upstreams: endpoints and their addresses, load balancing, health, ejection, retries and limits of requests in flight.

mod balancer;
mod budget;
mod call;
mod check_connection;
mod connector;
mod discovery;
mod ejection;
mod endpoint;
mod failure;
mod group;
mod grpc_health;
mod hash_key;
mod health;
mod http_health;
mod idle_pool;
mod metrics;
mod names;
mod peer;
mod plain_connection;
mod round_robin;
mod slow_start;
mod state_metrics;
mod tls;
mod tried;
mod upstreams;
mod wait_target;
mod waiting;

use std::sync::Arc;

pub(super) use call::{RequestFacts, UpstreamCall};
pub use group::Upstream;
pub(super) use peer::use_new_connection;
pub use tls::check_upstream_files;
pub(super) use upstreams::RunningUpstreams;
pub use upstreams::{Upstreams, UpstreamsError};

/// What a snapshot keeps for the upstream of a route; `None` for an upstream that the configuration does not define.
pub(super) type RouteUpstream = Option<Arc<Upstream>>;
