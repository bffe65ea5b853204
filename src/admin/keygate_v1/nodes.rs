//! `GET /keygate/v1/nodes` and `GET /keygate/v1/overview`: the nodes of the installation, and what this one does.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::ErrorResponse;
use crate::admin::node::{ListedNode, Overview};
use crate::admin::state::AdminState;

/// The nodes.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ListNodesResponse {
    /// The node that answers, then the others by their ids.
    nodes: Vec<ListedNode>,
    /// Whether all nodes are listed; false while the database is unavailable.
    is_complete: bool,
}

/// The overview of the node that answers. Everything in `node` is about that node only.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct OverviewResponse {
    node: NodeOverview,
}

/// The overview of a node, and its id.
#[derive(Serialize, ToSchema)]
struct NodeOverview {
    node_id: String,
    #[serde(flatten)]
    overview: Overview,
}

/// Lists the nodes that share the database.
#[utoipa::path(get, path = "/keygate/v1/nodes", operation_id = "listNodes", tag = "nodes",
    responses((status = 200, description = "The nodes", body = ListNodesResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn list_nodes(
    State(state): State<AdminState>,
    _: Context<op::ListNodes>,
) -> Json<ListNodesResponse> {
    let (nodes, is_complete) = state.node.list().await;
    Json(ListNodesResponse { nodes, is_complete })
}

/// Returns rates, refusals, decision times, cache levels and propagation of this node.
#[utoipa::path(get, path = "/keygate/v1/overview", operation_id = "getOverview", tag = "nodes",
    responses((status = 200, description = "The overview", body = OverviewResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn overview(
    State(state): State<AdminState>,
    _: Context<op::GetOverview>,
) -> Json<OverviewResponse> {
    Json(OverviewResponse { node: NodeOverview { node_id: state.node.id(), overview: state.node.overview() } })
}
