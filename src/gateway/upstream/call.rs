//! The upstream's part of one request: its attempts at endpoints, and which of them may be followed by another one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::protocols::tls::SslDigest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::balancer::EndpointSet;
use super::connector::InUse;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::group::{InFlight, Upstream};
use super::idle_pool::Group;
use super::metrics::Outcome;
use super::peer::use_new_connection;
use super::plain_connection;
use super::tried::{Retriable, Tried};
use crate::config::{NonIdempotentRetries, UpstreamProtocol};
use crate::pipeline::{Rejection, UpstreamAddress, UpstreamInfo};

/// The upstream's part of one request.
#[derive(Default)]
pub(in crate::gateway) struct UpstreamCall {
    target: Option<Target>,
    tried: Tried,
    attempts: u32,
    /// How many attempts had a connection, so that an endpoint may have processed the request.
    sent: u32,
    /// Whether the next attempt needs a new connection: a pooled one could be closed as well.
    needs_new_connection: bool,
    attempt: Option<Attempt>,
    /// The endpoint of the last attempt.
    endpoint: Option<Arc<str>>,
    /// When the first attempt began.
    began: Option<Instant>,
    /// The time until the end of the response.
    elapsed: Option<Duration>,
}

/// The upstream and its endpoints when the request began.
struct Target {
    upstream: Arc<Upstream>,
    set: Arc<EndpointSet>,
}

/// An attempt that has not ended.
struct Attempt {
    index: usize,
    in_flight: InFlight,
    /// The group of its connection.
    group: Group,
    began: Instant,
    is_reused: bool,
    /// Whether any head of a response has arrived.
    is_answered: bool,
    /// The consecutive failures of the endpoint that the response has ended. They count again if the response fails.
    failures_before: u32,
    /// How the attempt ends if nothing else happens.
    outcome: Option<Outcome>,
    /// `None` without a connection.
    in_use: Option<InUse>,
}

/// What decides whether a request can be sent again.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct RequestFacts {
    /// Whether the method is idempotent (RFC 9110 section 9.2.2).
    pub(in crate::gateway) is_idempotent: bool,
    /// Whether all of the body that was read is still there.
    pub(in crate::gateway) is_replayable: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        drop(self.in_use.take());
        if let Some(outcome) = self.outcome {
            self.endpoint().series.count(outcome);
        }
    }
}

impl Attempt {
    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.in_flight.endpoint
    }

    /// Counts a failure of the endpoint.
    fn add_failure(&self, target: &Target, fault: &str) {
        target.upstream.add_failure(&target.set, self.endpoint(), 1 + self.failures_before, fault);
    }
}

impl UpstreamCall {
    /// Selects the endpoint of the first attempt at `now`, if that takes no waiting. `key` is what a consistent hash is made from. With
    /// `false`, [`UpstreamCall::select`] continues.
    pub(in crate::gateway) fn select_now(&mut self, upstream: &Arc<Upstream>, key: &[u8], now: Instant) -> bool {
        let target = Target { upstream: Arc::clone(upstream), set: upstream.begin(now) };
        let selected = upstream.select_now(&target.set, key, &self.tried);
        self.target = Some(target);
        let Ok(selected) = selected else { return false };
        self.begin_attempt(selected, now);
        true
    }

    /// Selects the endpoint of the next attempt. A request that is spared waits longer if the upstream is overloaded.
    ///
    /// # Errors
    /// [`Rejection::UpstreamUnreachable`] if no endpoint is left, [`Rejection::UpstreamOverloaded`] if all have their maximum of requests
    /// in flight and no turn came in time.
    pub(in crate::gateway) async fn select(
        &mut self,
        upstream: &Arc<Upstream>,
        key: &[u8],
        is_spared: bool,
    ) -> Result<(), Rejection> {
        let now = Instant::now();
        let target = match &mut self.target {
            Some(target) => target,
            target => target.insert(Target { upstream: Arc::clone(upstream), set: upstream.begin(now) }),
        };
        if target.set.endpoints.is_empty() {
            // At the start, before names were resolved.
            target.set = Box::pin(upstream.first_endpoints()).await;
        }
        let selected = target.upstream.select(&target.set, key, &self.tried, is_spared).await?;
        self.begin_attempt(selected, now);
        Ok(())
    }

    fn begin_attempt(&mut self, (index, in_flight): (usize, InFlight), now: Instant) {
        let tls = self.target.as_ref().map_or(0, |target| target.upstream.tls_generation());
        self.attempts += 1;
        self.endpoint = Some(Arc::clone(&in_flight.endpoint.name));
        self.began.get_or_insert(now);
        self.attempt = Some(Attempt {
            index,
            group: in_flight.endpoint.group(tls),
            in_flight,
            began: now,
            is_reused: false,
            is_answered: false,
            failures_before: 0,
            outcome: None,
            in_use: None,
        });
    }

    /// Takes an idle connection to the endpoint of the current attempt. `now` is the time of the coarse clock.
    pub(in crate::gateway) fn take_idle(&self, now: Duration) -> Option<Stream> {
        let attempt = self.attempt.as_ref().filter(|_| !self.needs_new_connection)?;
        attempt.endpoint().take_idle(attempt.group, now)
    }

    /// Keeps a connection to the endpoint of the current attempt, whose response was read to its end.
    pub(in crate::gateway) fn keep_idle(&self, stream: Stream, now: Duration) {
        if let Some(attempt) = &self.attempt {
            attempt.endpoint().keep_idle(stream, attempt.group, now);
        }
    }

    /// Whether there is an attempt that has not ended.
    pub(in crate::gateway) fn has_attempt(&self) -> bool {
        self.attempt.is_some()
    }

    /// The peer of the current attempt.
    pub(in crate::gateway) fn peer(&self) -> Option<Box<HttpPeer>> {
        let (target, attempt) = (self.target.as_ref()?, self.attempt.as_ref()?);
        let mut peer = Box::new(attempt.endpoint().peer());
        if let Some(tls) = target.upstream.tls.as_ref().filter(|_| peer.is_tls()) {
            tls.apply(&mut peer);
        }
        if self.needs_new_connection {
            use_new_connection(&mut peer);
        }
        Some(peer)
    }

    /// A new connection for HTTP/1.1 to the peer of the current attempt. `connector` establishes those with TLS.
    pub(in crate::gateway) fn connect<'a>(
        &self,
        connector: &'a TransportConnector,
        peer: &'a HttpPeer,
    ) -> impl Future<Output = pingora::Result<Stream>> + use<'a> {
        let connections = self.attempt.as_ref().map(|attempt| Arc::clone(&attempt.endpoint().connections));
        async move {
            match connections {
                Some(connections) => plain_connection::connect(connector, peer, &connections).await,
                None => Err(Error::new_up(ErrorType::ConnectError)),
            }
        }
    }

    /// The address of the endpoint of the current attempt, as requests name it.
    pub(in crate::gateway) fn address(&self) -> UpstreamAddress<'_> {
        static NONE: HeaderValue = HeaderValue::from_static("");
        match &self.attempt {
            Some(attempt) => {
                UpstreamAddress { is_tls: attempt.endpoint().is_tls(), authority: &attempt.endpoint().host }
            }
            None => UpstreamAddress { is_tls: false, authority: &NONE },
        }
    }

    /// Notes that the endpoint cannot be reached. Nothing was sent, so another endpoint may be tried whatever the method is: returns
    /// whether one is left.
    pub(in crate::gateway) fn connect_failed(&mut self, error: &Error) -> bool {
        let (Some(target), Some(mut attempt)) = (&self.target, self.attempt.take()) else { return false };
        attempt.outcome = Some(Outcome::ConnectError);
        // A pooled connection of HTTP/2 takes no more requests. That does not say that the endpoint fails.
        let is_stale = error.etype() == &ErrorType::H2Error && !self.needs_new_connection;
        if is_stale {
            self.needs_new_connection = true;
            self.tried.add(attempt.index, Retriable::Yes);
        } else {
            attempt.add_failure(target, error.etype().as_str());
            self.tried.add(attempt.index, Retriable::No);
        }
        self.tried.leaves_one_of(target.set.endpoints.len())
    }

    /// Notes that the attempt has a connection, and checks it before the request is sent.
    ///
    /// # Errors
    /// If the version of TLS is too low.
    pub(in crate::gateway) fn connected(&mut self, is_reused: bool, tls: Option<&SslDigest>) -> pingora::Result<()> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        attempt.is_reused = is_reused;
        attempt.in_use = Some(attempt.endpoint().connections.enter());
        if !is_reused {
            attempt.endpoint().series.connected(attempt.began.elapsed());
        }
        if let Some(settings) = self.target.as_ref().and_then(|target| target.upstream.tls.as_ref()) {
            settings.check_version(tls)?;
        }
        self.sent += 1;
        Ok(())
    }

    /// Notes the head of a response, which arrived at `now` and may be an interim one.
    pub(in crate::gateway) fn answered(&mut self, status: StatusCode, now: Instant) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.is_answered = true;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        attempt.outcome = Some(Outcome::of_status(status));
        attempt.endpoint().series.answered(now.saturating_duration_since(attempt.began));
        attempt.failures_before = attempt.endpoint().add_success();
    }

    /// Notes that the exchange with the endpoint failed. Returns whether the request is to be sent again.
    pub(in crate::gateway) fn failed(&mut self, error: &Error, facts: RequestFacts) -> bool {
        let (Some(target), Some(mut attempt)) = (&self.target, self.attempt.take()) else { return false };
        let Some(failure) = Failure::of(error) else { return false };
        attempt.outcome = Some(failure.outcome);
        let is_unanswered = failure.is_unanswered && !attempt.is_answered;
        // An endpoint may close a connection that is idle. That does not say that it fails.
        let is_stale = attempt.is_reused && failure.is_closed && is_unanswered;
        let is_refusal = failure.is_unprocessed && failure.outcome != Outcome::ConnectError;
        if failure.outcome == Outcome::Timeout && target.upstream.protocol != UpstreamProtocol::Http1 {
            // Its connection may be dead, and other requests share it.
            attempt.endpoint().abandon_connections();
        }
        if is_stale || is_refusal {
            self.tried.add(attempt.index, Retriable::Yes);
        } else {
            attempt.add_failure(target, failure.outcome.label());
            self.tried.add(attempt.index, Retriable::No);
        }
        self.needs_new_connection = true;
        let repeats_unanswered = target.upstream.retries.non_idempotent == NonIdempotentRetries::Unanswered;
        let may_repeat = facts.is_idempotent || (repeats_unanswered && failure.is_closed);
        let is_retried = (failure.is_unprocessed || may_repeat)
            && is_unanswered
            && facts.is_replayable
            && self.sent <= target.upstream.retries.attempts
            && self.tried.leaves_one_of(target.set.endpoints.len())
            && (failure.is_unprocessed || target.upstream.try_retry());
        if is_retried {
            attempt.endpoint().series.retries.inc();
        }
        is_retried
    }

    /// Notes that the response was broken off because the endpoint fell silent.
    pub(in crate::gateway) fn fell_silent(&mut self) {
        let (Some(target), Some(mut attempt)) = (&self.target, self.attempt.take()) else { return };
        attempt.outcome = Some(Outcome::Timeout);
        attempt.add_failure(target, Outcome::Timeout.label());
    }

    /// Notes the end of the response, which arrived at `now`.
    pub(in crate::gateway) fn completed(&mut self, now: Instant) {
        self.elapsed = self.began.map(|began| now.saturating_duration_since(began));
    }

    /// What the access log says about the attempts; `None` for a request that no upstream got.
    pub(in crate::gateway) fn info(&self) -> Option<UpstreamInfo> {
        let (target, began) = (self.target.as_ref()?, self.began?);
        Some(UpstreamInfo {
            name: Arc::clone(&target.upstream.name),
            endpoint: self.endpoint.clone(),
            attempts: self.attempts,
            elapsed: self.elapsed.unwrap_or_else(|| began.elapsed()),
        })
    }
}
