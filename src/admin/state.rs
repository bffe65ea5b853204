//! The state shared by the handlers of the admin API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;

use super::auth::Authenticator;
use crate::audit_log::GatheredCalls;
use crate::config::ClientIpSource;
use crate::credential::SigningKeys;
use crate::id::TenantId;
use crate::lifecycle::Lifecycle;
use crate::pipeline::Snapshot;
use crate::ratelimit::Limiter;
use crate::store::AuditStore;
use crate::verifier::Verifier;

/// Returns the state of the gateway's upstreams: by upstream and endpoint; `None` until their names were resolved for the first time.
pub type UpstreamReport = Arc<dyn Fn() -> Option<serde_json::Value> + Send + Sync>;

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
    /// The state of the upstreams that `/health/ready` shows; `None` without a gateway.
    pub upstream_report: Option<UpstreamReport>,
}

/// The response of `/version`.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// The version of Keygate.
    pub version: String,
    /// The commit of the build.
    pub commit: String,
    /// The time of the build.
    pub build_time: String,
    /// A hash of the configuration without its secrets.
    pub config_hash: String,
}
