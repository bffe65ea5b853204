//! An upstream: a group of equivalent endpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora::lb::Backends;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::balancer::{EndpointSet, Unselected};
use super::budget::RetryBudget;
use super::discovery::{Discovery, DiscoveryHandle};
use super::ejection::Ejector;
use super::endpoint::Endpoint;
use super::hash_key::HashKey;
use super::health::EndpointCheck;
use super::metrics::Metrics;
use super::names::HostName;
use super::tls::UpstreamTls;
use super::tried::Tried;
use super::waiting::Waiting;
use crate::config::{BalancingPolicy, RetriesConfig, UpstreamConfig, UpstreamProtocol};
use crate::gateway::deadline::Clock;
use crate::gateway::timeouts::Timeouts;
use crate::listener::tls::{self, TlsError};
use crate::pipeline::{Exchange, Rejection};
use crate::wire::fields::Fields;

/// How often idle connections are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A group of equivalent endpoints.
pub struct Upstream {
    pub(super) name: Arc<str>,
    pub(super) retries: RetriesConfig,
    /// The protocol of the connections.
    pub(in crate::gateway) protocol: UpstreamProtocol,
    /// The timeouts, unless a route has others.
    pub(in crate::gateway) timeouts: Timeouts,
    pub(super) waiting: Arc<Waiting>,
    /// `None` for TLS with the authorities of the system only.
    pub(super) tls: Option<Arc<UpstreamTls>>,
    pub(super) is_health_checked: bool,
    policy: BalancingPolicy,
    hash_key: HashKey,
    max_requests: Option<u32>,
    check_interval: Duration,
    budget: RetryBudget,
    ejector: Ejector,
    discovery: Arc<Discovery>,
    /// pingora's view of the endpoints: discovery and health checks.
    backends: Backends,
    set: ArcSwap<EndpointSet>,
    /// How many names have not been resolved yet, successfully or not.
    unresolved: watch::Sender<usize>,
}

/// A request in flight at an endpoint. The next request that waits gets its turn when it is dropped.
pub(super) struct InFlight {
    pub(super) endpoint: Arc<Endpoint>,
    waiting: Arc<Waiting>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.leave();
        self.waiting.notify();
    }
}

impl Upstream {
    /// An upstream with the endpoints of a validated configuration. Its names have no addresses until [`Upstream::spawn`] is called.
    ///
    /// # Errors
    /// [`TlsError`] with the first TLS file that is not usable.
    pub(super) fn new(
        name: &str,
        config: &UpstreamConfig,
        metrics: &Metrics,
        tls_metrics: &tls::Metrics,
    ) -> Result<Arc<Self>, TlsError> {
        let name: Arc<str> = name.into();
        let tls = UpstreamTls::load(&name, config, tls_metrics)?;
        let waiting = Arc::new(Waiting::new(&config.pool));
        let discovery = Arc::new(Discovery::new(&name, config, metrics));
        let mut backends = Backends::new(Box::new(DiscoveryHandle(Arc::clone(&discovery))));
        if let Some(check) = &config.health_check {
            backends.set_health_check(Box::new(EndpointCheck::new(
                check,
                config,
                discovery.urls(),
                &waiting,
                tls.clone(),
            )));
        }
        let policy = config.load_balancing.policy;
        Ok(Arc::new(Self {
            retries: config.retries.clone(),
            protocol: config.protocol,
            timeouts: Timeouts::from(config),
            waiting,
            is_health_checked: config.health_check.is_some(),
            policy,
            hash_key: HashKey::new(&config.load_balancing),
            max_requests: config.pool.max_requests,
            check_interval: config.health_check.as_ref().map_or(Duration::MAX, |check| check.interval.0),
            budget: RetryBudget::new(config.retries.budget_percent),
            ejector: Ejector::new(&config.ejection),
            set: ArcSwap::from_pointee(EndpointSet::new(&discovery.backends(), policy)),
            unresolved: watch::Sender::new(discovery.names().count()),
            backends,
            discovery,
            name,
            tls,
        }))
    }

    /// Starts the background work on the current runtime: name resolution, health checks, and the end of idle connections.
    pub(super) fn spawn(self: &Arc<Self>, clock: &Arc<Clock>, tasks: &mut JoinSet<()>) {
        tasks.spawn(Arc::clone(self).sweep_idle(Arc::clone(clock)));
        for index in 0..self.discovery.names().count() {
            tasks.spawn(Arc::clone(self).keep_resolved(index));
        }
        if let Some(tls) = &self.tls {
            tasks.spawn(Arc::clone(tls).watch());
        }
        let upstream = Arc::clone(self);
        tasks.spawn(async move {
            upstream.update().await;
            if upstream.is_health_checked {
                upstream.keep_checked().await;
            }
        });
    }

    /// Whether each name was resolved, successfully or not.
    pub(super) fn is_resolved(&self) -> bool {
        *self.unresolved.borrow() == 0
    }

    /// The endpoints once there are some, or once each name was resolved; those that there are after `connect_timeout`.
    pub(super) async fn first_endpoints(&self) -> Arc<EndpointSet> {
        let mut unresolved = self.unresolved.subscribe();
        let is_known = |unresolved: &usize| *unresolved == 0 || !self.endpoints().endpoints.is_empty();
        // After the time, there are no endpoints.
        let _ = tokio::time::timeout(self.timeouts.connect(), unresolved.wait_for(is_known)).await;
        self.endpoints()
    }

    async fn keep_resolved(self: Arc<Self>, index: usize) {
        let Some(name) = self.discovery.names().nth(index) else { return };
        let mut next = self.resolve(name).await;
        self.unresolved.send_modify(|unresolved| *unresolved -= 1);
        loop {
            tokio::time::sleep(next).await;
            next = self.resolve(name).await;
        }
    }

    async fn resolve(&self, name: &HostName) -> Duration {
        let (is_changed, next) = name.resolve().await;
        if is_changed {
            self.update().await;
        }
        next
    }

    /// Takes over the current endpoints.
    async fn update(&self) {
        // Discovery does not fail.
        let _ = self.backends.update(|_| ()).await;
        let set = EndpointSet::new(&self.backends.get_backend(), self.policy);
        let names: Vec<_> = set.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
        tracing::info!(
            upstream = &*self.name,
            endpoints = names.join(" "),
            "endpoints of the upstream: {}",
            names.len()
        );
        self.set.store(Arc::new(set));
        self.waiting.notify();
    }

    /// Closes idle connections that are not to be used any more, until the future is dropped.
    async fn sweep_idle(self: Arc<Self>, clock: Arc<Clock>) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            for endpoint in &self.endpoints().endpoints {
                endpoint.sweep_idle(self.tls_generation(), Duration::from_millis(clock.now()));
            }
        }
    }

    /// How often the TLS files have changed.
    pub(super) fn tls_generation(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.generation())
    }

    async fn keep_checked(&self) {
        loop {
            self.backends.run_health_check(true).await;
            tokio::time::sleep(self.check_interval).await;
        }
    }

    /// What a consistent hash of a request is made from; empty for other policies.
    pub(in crate::gateway) fn hash_key<U, F: Fields>(&self, exchange: &Exchange<U>, fields: &F) -> Vec<u8> {
        self.hash_key.of(exchange, fields)
    }

    /// The current endpoints.
    pub(super) fn endpoints(&self) -> Arc<EndpointSet> {
        self.set.load_full()
    }

    /// Counts a request, and returns the endpoints for it.
    pub(super) fn begin(&self, now: Instant) -> Arc<EndpointSet> {
        self.budget.add_request(now);
        self.endpoints()
    }

    /// Selects an endpoint, if that takes no waiting.
    ///
    /// # Errors
    /// [`Unselected`].
    pub(super) fn select_now(
        &self,
        set: &EndpointSet,
        key: &[u8],
        tried: &Tried,
    ) -> Result<(usize, InFlight), Unselected> {
        // Requests that wait already come first.
        if self.max_requests.is_some() && self.waiting.count() > 0 {
            return Err(Unselected::Full);
        }
        set.select(key, tried, self.max_requests).map(|index| self.in_flight(set, index))
    }

    fn in_flight(&self, set: &EndpointSet, index: usize) -> (usize, InFlight) {
        (index, InFlight { endpoint: Arc::clone(&set.endpoints[index]), waiting: Arc::clone(&self.waiting) })
    }

    /// Selects an endpoint. Waits for a turn if all that could be selected have their maximum of requests in flight; a request that is
    /// spared waits longer if too many do.
    ///
    /// # Errors
    /// [`Rejection::UpstreamUnreachable`] if no endpoint is left, [`Rejection::UpstreamOverloaded`] if no turn came in time.
    pub(super) async fn select(
        &self,
        set: &EndpointSet,
        key: &[u8],
        tried: &Tried,
        is_spared: bool,
    ) -> Result<(usize, InFlight), Rejection> {
        match self.select_now(set, key, tried) {
            Ok(selected) => Ok(selected),
            Err(Unselected::Exhausted) => Err(Rejection::UpstreamUnreachable),
            Err(Unselected::Full) => {
                let turn = || match set.select(key, tried, self.max_requests) {
                    Ok(index) => Some(Ok(self.in_flight(set, index))),
                    Err(Unselected::Full) => None,
                    Err(Unselected::Exhausted) => Some(Err(Rejection::UpstreamUnreachable)),
                };
                self.waiting
                    .wait_for(is_spared, turn)
                    .await
                    .unwrap_or_else(|reason| Err(Rejection::UpstreamOverloaded(reason)))
            }
        }
    }

    /// Counts failures of an endpoint, which may eject it. `fault` is the last one.
    pub(super) fn add_failure(&self, set: &EndpointSet, endpoint: &Arc<Endpoint>, count: u32, fault: &str) {
        self.ejector.add_failure(&set.endpoints, endpoint, (count, fault), &self.waiting);
    }

    /// Counts a retry if the budget allows one.
    pub(super) fn try_retry(&self) -> bool {
        self.budget.try_retry(Instant::now())
    }
}
