//! The admin API, on its own listener and runtime: wire-compatible with the API-keys API of Ory Talos (`v2alpha1`), and Keygate's own
//! operations (`keygate_v1`).

mod auth;
mod body;
mod browser;
mod console;
mod context;
mod custom_verb;
mod error;
mod health;
mod json;
mod keygate_v1;
mod middleware;
mod node;
mod openapi;
mod query;
mod rate_limit_status;
mod router;
mod sample;
mod server;
mod state;
mod v2alpha1;
mod version;

#[cfg(test)]
pub(crate) use auth::operations;
pub use auth::{AdminGrant, Authenticator, AuthenticatorParts, NewAdminKey, Role};
pub use browser::{AllowedHosts, BrowserRules, Cors};
pub use keygate_v1::{AdminKey, NewAdminKeyResponse};
pub use middleware::Metrics as RequestMetrics;
pub use node::{ListenerInfo, Node, NodeParts, UpstreamReport};
pub use openapi::{openapi_json, own_openapi_json};
pub use router::{Routers, routers};
pub use sample::sample_router;
pub use server::{CurrentRouter, Peer, Server, ServerOptions};
pub use state::AdminState;
pub use v2alpha1::read_key;
pub use version::Version;
