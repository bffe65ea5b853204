//! The state shared by the handlers of the admin API.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::auth::Authenticator;
use super::node::{Node, UpstreamReport};
use super::version::Version;
use crate::audit_log::GatheredCalls;
use crate::config::{ClientIpSource, Setting};
use crate::credential::{Keyring, SigningKeys};
use crate::id::TenantId;
use crate::lifecycle::Lifecycle;
use crate::pipeline::Snapshot;
use crate::ratelimit::Limiter;
use crate::store::AuditStore;
use crate::traces::Tracer;
use crate::verifier::Verifier;

/// The state shared by all handlers.
#[derive(Clone)]
pub struct AdminState {
    /// The write side.
    pub lifecycle: Arc<Lifecycle>,
    /// The read side.
    pub verifier: Arc<Verifier>,
    /// The keys that sign derived JWTs.
    pub signing_keys: Arc<ArcSwap<SigningKeys>>,
    /// The limiter for the keys' limits, if they are enforced.
    pub limiter: Option<Arc<Limiter>>,
    /// Authenticates callers; `None` if they are not authenticated.
    pub authenticator: Option<Arc<Authenticator>>,
    /// Issues, rotates and revokes admin keys.
    pub admin_keys: Arc<Lifecycle>,
    /// The steps of requests under the configuration of the gateway, to explain them. Without a gateway it has no routes.
    pub snapshot: Arc<Snapshot>,
    /// Whether the configuration has a gateway.
    pub has_routes: bool,
    /// The served tenant.
    pub tenant: TenantId,
    /// Whether introspection reports tokens of revoked or deleted keys as inactive, as the gateway rejects them.
    pub revoke_with_parent: bool,
    /// The source of a client's address.
    pub client_ip_source: ClientIpSource,
    /// The response of `/version`.
    pub version: Arc<Version>,
    /// Whether `/health/*` is excluded from the log.
    pub quiet_health: bool,
    /// The audit trail, if the store keeps one.
    pub audit: Option<Arc<dyn AuditStore>>,
    /// Counts refused calls and failed verifications for the audit trail.
    pub gathered_calls: Arc<GatheredCalls>,
    /// Records traces; `None` if there are none.
    pub tracer: Option<Arc<Tracer>>,
    /// This process as a node of the installation.
    pub node: Arc<Node>,
    /// The settings of this process, without secrets.
    pub settings: Arc<[Setting]>,
    /// The secrets that seal the sessions of the console; `None` if it is not served.
    pub console: Option<Arc<Keyring>>,
    /// The state of the upstreams that `/health/ready` shows; `None` without a gateway.
    pub upstream_report: Option<UpstreamReport>,
}
