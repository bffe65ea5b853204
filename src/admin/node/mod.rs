//! This node: what it says about itself, its heartbeats, and samples of its metrics.

mod counts;
mod histogram;
mod overview;
mod readiness;
mod samples;
mod status;
mod this_node;

pub(super) use overview::Overview;
pub use readiness::ListenerInfo;
pub(super) use readiness::Readiness;
pub(super) use status::ListedNode;
pub use status::UpstreamReport;
pub use this_node::{Node, NodeParts};
