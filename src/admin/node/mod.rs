//! This node: what it says about itself, its heartbeats, and samples of its metrics.

mod counts;
mod histogram;
#[expect(clippy::module_inception, reason = "the type is the module's subject")]
mod node;
mod overview;
mod samples;
mod status;

pub use node::{Node, NodeParts};
pub(super) use overview::Overview;
pub(super) use status::ListedNode;
pub use status::UpstreamReport;
