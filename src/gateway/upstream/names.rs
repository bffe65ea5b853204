//! Host names of endpoints, resolved in the background.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::DnsConfig;

/// Time limit of a resolution.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time from a failed resolution to the next, unless `dns.refresh` is shorter.
const RETRY: Duration = Duration::from_secs(1);

/// A host name with all of its addresses.
#[derive(Debug)]
pub(super) struct HostName {
    upstream: Arc<str>,
    host: String,
    port: u16,
    dns: DnsConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: Vec<SocketAddr>,
    /// When the last resolution succeeded.
    resolved: Option<Instant>,
    is_failing: bool,
}

impl HostName {
    pub(super) fn new(upstream: &Arc<str>, host: &str, port: u16, dns: &DnsConfig) -> Self {
        let upstream = Arc::clone(upstream);
        Self { upstream, host: host.to_owned(), port, dns: dns.clone(), state: Mutex::default() }
    }

    /// The addresses of the last successful resolution, unless it is too old.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.state.lock().addresses.clone()
    }

    /// Resolves the name. Returns whether its addresses have changed, and when to resolve it again.
    pub(super) async fn resolve(&self) -> (bool, Duration) {
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let fault = match tokio::time::timeout(TIMEOUT, lookup).await {
            Ok(Ok(addresses)) => {
                let mut addresses: Vec<_> = addresses.collect();
                addresses.sort_unstable();
                addresses.dedup();
                if !addresses.is_empty() {
                    return (self.succeed(addresses), self.dns.refresh.0);
                }
                "the name has no address".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        (self.fail(&fault), self.dns.refresh.0.min(RETRY))
    }

    fn succeed(&self, addresses: Vec<SocketAddr>) -> bool {
        let mut state = self.state.lock();
        state.resolved = Some(Instant::now());
        if std::mem::take(&mut state.is_failing) {
            tracing::info!(upstream = &*self.upstream, host = self.host, "the host name is resolved again");
        }
        let is_changed = state.addresses != addresses;
        state.addresses = addresses;
        is_changed
    }

    fn fail(&self, fault: &str) -> bool {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.is_failing, true) {
            tracing::warn!(
                upstream = &*self.upstream,
                host = self.host,
                fault,
                "the host name {} cannot be resolved; its addresses are used for dns.max_stale at most",
                self.host
            );
        }
        let is_stale = state.resolved.is_none_or(|resolved| resolved.elapsed() >= self.dns.max_stale.0);
        if !is_stale || state.addresses.is_empty() {
            return false;
        }
        tracing::warn!(
            upstream = &*self.upstream,
            host = self.host,
            "the addresses of {} are older than dns.max_stale and are not used any more",
            self.host
        );
        state.addresses.clear();
        true
    }
}
