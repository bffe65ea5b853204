//! Why a request is not answered by the upstream: what routing, extraction, limits and upstreams say, and what the verifier says.

use std::sync::Arc;
use std::time::Duration;

use super::extract::ExtractError;
use crate::verifier::Denial;

/// Why the pipeline answers a request itself. [`rejection_response`](super::problem::rejection_response) maps each variant to its
/// HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// No route matches the request.
    RouteNotFound,
    /// The request is malformed; the text says how.
    RequestInvalid(&'static str),
    /// The method is not served: CONNECT or TRACE.
    MethodNotAllowed,
    /// The request target is longer than the limit.
    TargetTooLong,
    /// The request head is larger than the limit, or has more fields.
    HeadTooLarge,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The request body is larger than the route allows.
    BodyTooLarge,
    /// The version of HTTP is not served.
    VersionNotSupported,
    /// The request carries a credential and did not come over TLS, which the listener requires.
    TlsRequired,
    /// The route requires a credential and the request carries none.
    CredentialMissing,
    /// The request carries two different credentials.
    CredentialAmbiguous,
    /// The request carries text that cannot be a credential.
    CredentialMalformed,
    /// A browser sent the credential with a request of another site.
    CrossOriginForbidden,
    /// The verifier denies the credential, or cannot decide.
    Denied(Denial),
    /// The route requires a client certificate, and the connection has none or another one.
    ClientCertificateRequired,
    /// The credential lacks a scope.
    ScopeInsufficient {
        /// All scopes that the route requires.
        required: Arc<[Box<str>]>,
    },
    /// A rate limit is exceeded.
    QuotaExceeded {
        /// The names of the exceeded limits.
        violated: Vec<Arc<str>>,
        /// The time until none of them is exceeded.
        retry_after: Duration,
    },
    /// Too many rejected credentials came from the client's address.
    AuthFailuresExceeded {
        /// The time until the next request of the address is verified.
        retry_after: Duration,
    },
    /// Requests cannot be counted, and the configuration requires that they are.
    LimiterUnavailable,
    /// The sender of the request is not trusted to ask about requests of others.
    PeerNotTrusted,
    /// The route serves no upgrades to other protocols.
    UpgradeDenied,
    /// There are too many WebSockets, event streams and gRPC calls.
    StreamsExceeded,
    /// This program has a defect.
    InternalError,
    /// The upstream cannot be reached, or closed the connection before it answered.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// There are too many requests in flight.
    Overloaded(ShedReason),
    /// All endpoints of the upstream have their maximum of requests in flight, and no turn came in time.
    UpstreamOverloaded(ShedReason),
}

/// Which limit refuses a request because of overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShedReason {
    /// `gateway.overload.max_in_flight`.
    InFlight,
    /// `limits.max_in_flight` of the listener.
    ListenerInFlight,
    /// `pool.max_waiting` of the upstream.
    MaxWaiting,
    /// `pool.wait_timeout` of the upstream.
    WaitTimeout,
    /// `pool.wait_target` of the upstream.
    WaitTarget,
}

impl Rejection {
    /// The stable name: `code` in problem bodies, the `denial` label of metrics and log lines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RouteNotFound => "route_not_found",
            Self::RequestInvalid(_) => "request_invalid",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::VersionNotSupported => "version_not_supported",
            Self::TlsRequired => "tls_required",
            Self::CredentialMissing => "credential_missing",
            Self::CredentialAmbiguous => "credential_ambiguous",
            Self::CredentialMalformed => "credential_malformed",
            Self::CrossOriginForbidden => "cross_origin_forbidden",
            Self::Denied(denial) => denial.code(),
            Self::ClientCertificateRequired => "client_certificate_required",
            Self::ScopeInsufficient { .. } => "scope_insufficient",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::AuthFailuresExceeded { .. } => "auth_failures_exceeded",
            Self::LimiterUnavailable => "unavailable",
            Self::PeerNotTrusted => "peer_not_trusted",
            Self::UpgradeDenied => "upgrade_denied",
            Self::StreamsExceeded => "streams_exceeded",
            Self::InternalError => "internal_error",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Overloaded(_) => "overloaded",
            Self::UpstreamOverloaded(_) => "upstream_overloaded",
        }
    }

    /// The limit that refuses the request, if that is overload.
    pub fn shed_reason(&self) -> Option<ShedReason> {
        match self {
            Self::Overloaded(reason) | Self::UpstreamOverloaded(reason) => Some(*reason),
            _ => None,
        }
    }
}

impl ShedReason {
    /// The value of the label `reason` of metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::ListenerInFlight => "listener_in_flight",
            Self::MaxWaiting => "max_waiting",
            Self::WaitTimeout => "wait_timeout",
            Self::WaitTarget => "wait_target",
        }
    }
}

impl From<Denial> for Rejection {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<ExtractError> for Rejection {
    fn from(error: ExtractError) -> Self {
        match error {
            ExtractError::Ambiguous => Self::CredentialAmbiguous,
            ExtractError::Malformed => Self::CredentialMalformed,
        }
    }
}
