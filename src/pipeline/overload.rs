//! Which requests are refused because there are too many. A request that is refused early costs less than one that fails late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::request_metrics::{InFlight, Metrics};
use crate::config::OverloadConfig;
use crate::wire::{Rejection, ShedReason};

/// Requests whose key is in the cache are refused at this multiple of the limit: they are of clients that are known, and cost no lookup.
const SPARED: u32 = 2;

/// The limit of all requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overload {
    max_in_flight: Option<u32>,
}

/// The requests in flight of a listener, and their limit. All connections of the listener share it.
#[derive(Debug, Default)]
pub struct ListenerLoad {
    /// 0 for no limit.
    max: AtomicU32,
    /// Counted while there is a limit.
    count: AtomicU32,
}

/// Counts a request as in flight, in the process and on its listener, until it is dropped.
#[derive(Debug)]
pub(super) struct RequestInFlight {
    /// `None` if the listener has no limit.
    listener: Option<Arc<ListenerLoad>>,
    _process: InFlight,
}

impl Overload {
    pub(super) fn new(config: OverloadConfig) -> Self {
        Self { max_in_flight: config.max_in_flight }
    }

    /// Whether a request is processed, which counts as in flight already.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`].
    pub(super) fn check(
        self,
        is_key_known: bool,
        metrics: &Metrics,
        request: Option<&RequestInFlight>,
    ) -> Result<(), Rejection> {
        let factor = if is_key_known { SPARED } else { 1 };
        let exceeds = |max: u32, count: i64| count > i64::from(max) * i64::from(factor);
        if self.max_in_flight.is_some_and(|max| exceeds(max, metrics.in_flight())) {
            return Err(Rejection::Overloaded(ShedReason::InFlight));
        }
        let listener = request.and_then(|request| request.listener.as_ref());
        if let Some((max, count)) = listener.and_then(|listener| listener.state())
            && exceeds(max, count.into())
        {
            return Err(Rejection::Overloaded(ShedReason::ListenerInFlight));
        }
        Ok(())
    }
}

impl ListenerLoad {
    /// A listener with a limit of requests in flight.
    pub fn new(max: Option<u32>) -> Self {
        Self { max: AtomicU32::new(max.unwrap_or(0)), count: AtomicU32::new(0) }
    }

    /// Changes the limit, also for connections that are open.
    pub fn set_max(&self, max: Option<u32>) {
        self.max.store(max.unwrap_or(0), Ordering::Relaxed);
    }

    fn max(&self) -> Option<u32> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max > 0)
    }

    /// The limit, and the number of requests in flight. `None` without a limit.
    fn state(&self) -> Option<(u32, u32)> {
        Some((self.max()?, self.count.load(Ordering::Relaxed)))
    }
}

impl RequestInFlight {
    /// Counts a request that has begun on a listener.
    pub(super) fn begin(metrics: &Metrics, listener: Option<&Arc<ListenerLoad>>) -> Self {
        let listener = listener.filter(|listener| listener.max().is_some()).map(Arc::clone);
        if let Some(listener) = &listener {
            listener.count.fetch_add(1, Ordering::Relaxed);
        }
        Self { listener, _process: metrics.begin() }
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    /// Begins requests one by one; after each, whether it is processed with an unknown and with a known key.
    fn outcomes(overload: Overload, listener: Option<&Arc<ListenerLoad>>) -> Vec<[Result<(), Rejection>; 2]> {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mut begun = Vec::new();
        let outcome = |_| {
            begun.push(RequestInFlight::begin(&metrics, listener));
            [false, true].map(|is_known| overload.check(is_known, &metrics, begun.last()))
        };
        (1..=5).map(outcome).collect()
    }

    fn refused_at_twice(reason: ShedReason) -> Vec<[Result<(), Rejection>; 2]> {
        let refused = || Err(Rejection::Overloaded(reason));
        vec![[Ok(()), Ok(())], [Ok(()), Ok(())], [refused(), Ok(())], [refused(), Ok(())], [refused(), refused()]]
    }

    #[test]
    fn known_keys_are_refused_at_twice_the_limit() {
        let overload = Overload::new(OverloadConfig { max_in_flight: Some(2) });
        assert_eq!(outcomes(overload, None), refused_at_twice(ShedReason::InFlight));
        let unlimited = Overload::new(OverloadConfig::default());
        assert!(outcomes(unlimited, None).concat().iter().all(Result::is_ok), "there is no limit by default");
    }

    #[test]
    fn limit_of_a_listener_counts_its_own_requests() {
        let unlimited = Overload::new(OverloadConfig::default());
        let (listener, other) = (Arc::new(ListenerLoad::new(Some(2))), Arc::new(ListenerLoad::new(Some(5))));
        assert_eq!(outcomes(unlimited, Some(&listener)), refused_at_twice(ShedReason::ListenerInFlight));
        assert_eq!(listener.count.load(Ordering::Relaxed), 0, "all have ended");
        assert!(outcomes(unlimited, Some(&other)).concat().iter().all(Result::is_ok));
        listener.set_max(None);
        assert!(outcomes(unlimited, Some(&listener)).concat().iter().all(Result::is_ok), "the limit was removed");
    }
}
