//! The limit of open file descriptors, and what each listener may use of it.

use prometheus::{Gauge, Opts, Registry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::admission::CLOSING;

/// Descriptors for everything that is not a connection of a client: the database, Redis, files, threads, sockets that are refused.
const RESERVE: usize = 768;
/// The part of the limit that the reserve may take at most, as a divisor.
const RESERVE_SHARE: usize = 8;
/// Idle upstream connections that pingora keeps.
const IDLE_UPSTREAMS: usize = 128;
/// Connections of the admin API, and of health and metrics.
const ADMIN: usize = 512;
/// Connections of external authorization.
const EXTERNAL_AUTH: usize = 4096;
/// What an unlimited process counts as: more than any share needs.
const UNLIMITED: usize = 1 << 30;

/// The limit of open file descriptors of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    limit: usize,
}

/// The connections that each listener may have at most, so that none takes the descriptors of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionShares {
    /// The admin API.
    pub admin: usize,
    /// Health and metrics.
    pub metrics: usize,
    /// External authorization.
    pub external_auth: usize,
    /// The gateway. Each of its connections is counted with an upstream connection.
    pub gateway: usize,
}

impl Descriptors {
    /// Raises the soft limit of the process to the hard limit, and returns it. If it cannot be raised, that is logged.
    pub fn raise() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: maximum, maximum };
        if current != maximum && setrlimit(Resource::Nofile, raised).is_err() {
            tracing::warn!(?current, ?maximum, "the limit of open files cannot be raised to the hard limit");
            return Self::of(current);
        }
        Self::of(maximum)
    }

    /// A limit; `None` for no limit.
    pub fn of(limit: Option<u64>) -> Self {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(UNLIMITED);
        Self { limit: limit.min(UNLIMITED) }
    }

    /// The limit.
    pub fn limit(self) -> usize {
        self.limit
    }

    /// Registers the limit as `process_max_fds`, its name in the Prometheus client libraries.
    ///
    /// # Errors
    /// When `registry` has a metric of this name already.
    pub fn register(self, registry: &Registry) -> Result<(), prometheus::Error> {
        let gauge = Gauge::with_opts(Opts::new("process_max_fds", "Maximum number of open file descriptors"))?;
        gauge.set(f64::from(u32::try_from(self.limit).unwrap_or(u32::MAX)));
        registry.register(Box::new(gauge))
    }

    /// What each listener may use of the limit; 1 connection at least. Admin and metrics get a sixteenth each, up to 512; the reserve and
    /// idle upstream connections an eighth each, up to 768 and 128; external authorization, if it is served, a quarter of the rest, up to
    /// 4,096. What is left is for the gateway: 1 descriptor for each client, 1 for its upstream, and 1/16 for connections that are evicted
    /// and not closed yet.
    pub fn shares(self, has_external_auth: bool) -> ConnectionShares {
        let share = |divisor: usize, max: usize| (self.limit / divisor).min(max).max(1);
        let admin = share(16, ADMIN);
        let reserved = 2 * admin + share(RESERVE_SHARE, RESERVE) + share(RESERVE_SHARE, IDLE_UPSTREAMS);
        let rest = self.limit.saturating_sub(reserved);
        let external_auth = if has_external_auth { (rest / 4).clamp(1, EXTERNAL_AUTH) } else { 0 };
        let gateway = rest.saturating_sub(external_auth) * CLOSING / (2 * CLOSING + 1);
        ConnectionShares { admin, metrics: admin, external_auth, gateway: gateway.max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit_into_the_limit() {
        for limit in [64, 256, 1024, 4096, 20_000, 65_536, 1 << 20] {
            for has_external_auth in [false, true] {
                let shares = Descriptors::of(Some(limit)).shares(has_external_auth);
                let closing = shares.gateway.div_ceil(CLOSING);
                let used = shares.admin + shares.metrics + shares.external_auth + 2 * shares.gateway + closing;
                let limit = usize::try_from(limit).unwrap();
                assert!(used + limit.min(6144) / 8 <= limit, "{limit}: {shares:?}");
                assert!(shares.gateway >= limit / 5 || has_external_auth, "{limit}: {shares:?}");
            }
        }
    }

    #[test]
    fn shares_of_usual_limits_are_those_of_the_documentation() {
        let gateway = |limit| Descriptors::of(limit).shares(false).gateway;
        assert_eq!([Some(1024), Some(20_000), Some(65_536)].map(gateway), [310, 8766, 30_844]);
        assert!(gateway(None) > 100_000_000);
        let small = Descriptors::of(Some(1024)).shares(true);
        assert_eq!(small, ConnectionShares { admin: 64, metrics: 64, external_auth: 160, gateway: 232 });
    }

    #[test]
    fn limit_is_raised_to_the_hard_limit() {
        let limit = Descriptors::raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((current, limit), (maximum, Descriptors::of(maximum)));
    }
}
