//! Host names of endpoints, resolved in the background.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

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
                    return (self.succeed(addresses, Instant::now()), self.dns.refresh.0);
                }
                "the name has no address".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        (self.fail(&fault, Instant::now()), self.dns.refresh.0.min(RETRY))
    }

    fn succeed(&self, addresses: Vec<SocketAddr>, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.resolved = Some(now);
        if std::mem::take(&mut state.is_failing) {
            tracing::info!(upstream = &*self.upstream, host = self.host, "the host name is resolved again");
        }
        let is_changed = state.addresses != addresses;
        state.addresses = addresses;
        is_changed
    }

    fn fail(&self, fault: &str, now: Instant) -> bool {
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
        let is_stale =
            state.resolved.is_none_or(|resolved| now.saturating_duration_since(resolved) >= self.dns.max_stale.0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_used_until_they_are_stale() {
        let dns = DnsConfig::default();
        let (refresh, max_stale) = (dns.refresh.0, dns.max_stale.0);
        let name = HostName::new(&"orders".into(), "orders.internal", 80, &dns);
        let addresses: Vec<SocketAddr> = vec!["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()];
        let start = Instant::now();
        assert!(!name.fail("no answer", start));
        assert!(name.succeed(addresses.clone(), start));
        assert!(!name.succeed(addresses.clone(), start + refresh));
        assert!(!name.fail("no answer", start + max_stale));
        assert_eq!(name.addresses(), addresses);
        assert!(name.fail("no answer", start + refresh + max_stale));
        assert!(name.addresses().is_empty());
        assert!(!name.fail("no answer", start + refresh + max_stale));
        assert!(name.succeed(addresses, start + refresh + max_stale));
    }
}
