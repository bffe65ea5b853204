//! The OpenAPI 3.1 descriptions, generated from the handlers and their types: one of the operations of the contract, one of Keygate's own.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::auth::{Access, Operation, op};
use super::context::Context;
use super::error::{ErrorResponse, not_found};
use super::keygate_v1::{
    admin_keys, audit_chain, audit_events, caller, config, explain, introspect, keys, nodes, rate_limit, top_keys,
    usage,
};
use super::state::AdminState;
use super::{health, v2alpha1};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keygate admin API",
        version = "v2alpha1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        description = "Issues, imports, rotates, revokes, verifies and derives credentials. Wire-compatible with the \
            API-keys API of Ory Talos. Members are accepted in snake_case and lowerCamelCase; unknown ones are ignored."
    ),
    paths(
        v2alpha1::issue::issue,
        v2alpha1::list::issued,
        v2alpha1::get::issued,
        v2alpha1::update::issued,
        v2alpha1::rotate::rotate,
        v2alpha1::revoke::issued,
        v2alpha1::import::import,
        v2alpha1::list::imported,
        v2alpha1::get::imported,
        v2alpha1::update::imported,
        v2alpha1::delete::delete,
        v2alpha1::revoke::imported,
        v2alpha1::batch_create::batch_create,
        v2alpha1::verify::verify,
        v2alpha1::verify::batch_verify,
        v2alpha1::derive::derive,
        v2alpha1::jwks::jwks,
        v2alpha1::self_revoke::self_revoke,
        v2alpha1::batch_create::batch_import,
        v2alpha1::revoke::either,
        v2alpha1::jwks::legacy_jwks
    )
)]
struct Contract;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keygate operations",
        version = "v1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        description = "The operations that the contract does not have: searches, usage, the audit trail, introspection, \
            explanations, admin keys, nodes and their state. Members and parameters are accepted in snake_case and lowerCamelCase."
    ),
    paths(
        keys::list_keys,
        keys::count_inactive_keys,
        usage::usage,
        rate_limit::rate_limit,
        top_keys::top_keys,
        audit_events::audit_events,
        audit_chain::audit_chain,
        introspect::introspect,
        explain::explain,
        admin_keys::operations::create,
        admin_keys::operations::list,
        admin_keys::operations::get,
        admin_keys::operations::rotate,
        admin_keys::operations::revoke,
        caller::caller,
        nodes::list_nodes,
        nodes::overview,
        config::get_config,
        describe_contract,
        describe_own,
        health::version,
        health::alive,
        health::ready
    )
)]
struct Own;

/// The description of the operations of the contract, as served and as in `config/openapi.json`: indented JSON.
pub fn openapi_json() -> String {
    text(&Contract::openapi())
}

/// The description of Keygate's own operations, as served and as in `config/openapi-keygate.json`: indented JSON.
pub fn own_openapi_json() -> String {
    text(&Own::openapi())
}

/// A description with what each operation needs.
fn text(description: &utoipa::openapi::OpenApi) -> String {
    let mut description = json!(description);
    for operation in Operation::ALL {
        let Some((method, path)) = operation.route().split_once(' ') else { continue };
        let paths = &mut description["paths"];
        if let Some(described) = paths.get_mut(path).and_then(|path| path.get_mut(method.to_lowercase())) {
            add_access(described, operation.access());
        }
    }
    description["components"]["securitySchemes"] = json!({"adminKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An admin key. Not needed where callers are not authenticated. `x-keygate-role` is the role that it must have."
    }});
    format!("{description:#}\n")
}

fn add_access(described: &mut Value, access: Access) {
    let admin_key = json!([{"adminKey": []}]);
    match access {
        Access::Public => described["security"] = json!([]),
        Access::AnyRole => described["security"] = admin_key,
        Access::Role(role) => {
            described["security"] = admin_key;
            described["x-keygate-role"] = role.name().into();
        }
    }
    let parameters = described.get_mut("parameters").and_then(Value::as_array_mut);
    for schema in parameters.into_iter().flatten().filter_map(|parameter| parameter.get_mut("schema")) {
        remove_null(schema);
    }
}

/// Removes `null` from the schema of a parameter: a query cannot have it.
fn remove_null(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [name] = &types[..] {
            schema["type"] = name.clone();
        }
    }
    let alternatives = schema.get("oneOf").and_then(Value::as_array);
    let other = alternatives.and_then(|all| all.iter().find(|one| one["type"] != "null")).cloned();
    if let Some(other) = other {
        *schema = other;
    }
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/openapi.json", get(describe_contract))
        .route("/openapi-keygate.json", get(describe_own))
        .method_not_allowed_fallback(not_found)
}

/// Returns the description of the operations of the contract.
#[utoipa::path(get, path = "/openapi.json", operation_id = "describeApi", tag = "process",
    responses((status = 200, description = "The description", body = Object),
        (status = "default", description = "Any error", body = ErrorResponse)))]
async fn describe_contract(_: Context<op::DescribeApi>) -> Response {
    static JSON: LazyLock<String> = LazyLock::new(openapi_json);
    respond(&JSON)
}

/// Returns this description.
#[utoipa::path(get, path = "/openapi-keygate.json", operation_id = "describeOwnApi", tag = "process",
    responses((status = 200, description = "The description", body = Object),
        (status = "default", description = "Any error", body = ErrorResponse)))]
async fn describe_own(_: Context<op::DescribeOwnApi>) -> Response {
    static JSON: LazyLock<String> = LazyLock::new(own_openapi_json);
    respond(&JSON)
}

fn respond(json: &'static str) -> Response {
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}
