//! One live stream.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::reason::EndReason;
use crate::cache::CacheKey;
use crate::id::TenantId;
use crate::verifier::{Denial, Presented, Verdict, Verifier};

/// Ends an exchange. A front implements it for the exchanges that it can end.
pub trait EndStream: Send + Sync {
    /// Ends the exchange soon. Must return at once, and may be called more than once: the first reason counts.
    fn end(&self, reason: EndReason);
}

/// What a live stream was authorized with.
pub(in crate::pipeline) struct StreamSubject {
    pub(in crate::pipeline) verdict: Verdict,
    pub(in crate::pipeline) client_ip: Option<IpAddr>,
    pub(in crate::pipeline) scopes: Arc<[Box<str>]>,
    pub(in crate::pipeline) audiences: Vec<String>,
    pub(in crate::pipeline) tenant: TenantId,
    pub(in crate::pipeline) revoke_with_parent: bool,
}

/// A stream as the registry keeps it.
pub(super) struct WatchedStream {
    pub(super) subject: StreamSubject,
    pub(super) end: Arc<dyn EndStream>,
}

impl StreamSubject {
    /// The key whose changes concern the stream: the parent of a token.
    pub(super) fn key(&self) -> CacheKey {
        (self.verdict.tenant(), self.verdict.key_id())
    }

    /// Judges the credential again, as for a new request on the same route.
    pub(super) async fn recheck(&self, verifier: &Verifier) -> Result<Verdict, Denial> {
        let presented = Presented {
            client_ip: self.client_ip,
            audiences: &self.audiences,
            revoke_with_parent: self.revoke_with_parent,
            ..Presented::new(self.tenant, "", Instant::now())
        };
        verifier.recheck(&self.verdict, &presented).await
    }
}
