//! Requests that wait for a turn because all endpoints have their maximum of requests in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::wait_target::WaitTarget;
use crate::config::PoolConfig;
use crate::pipeline::ShedReason;

/// A bounded queue. The first request that waits gets the first endpoint that becomes free.
#[derive(Debug)]
pub(super) struct Waiting {
    max: usize,
    timeout: Duration,
    target: Option<WaitTarget>,
    count: AtomicUsize,
    /// Its only permit belongs to the first request of the queue. The semaphore is fair.
    turn: Semaphore,
    freed: Notify,
}

/// Counts a request that waits, until it is dropped.
struct Place<'w>(&'w Waiting);

impl Waiting {
    pub(super) fn new(config: &PoolConfig) -> Self {
        Self {
            max: usize::try_from(config.max_waiting).unwrap_or(usize::MAX),
            timeout: config.wait_timeout.0,
            target: config.wait_target.map(|target| WaitTarget::new(target.0)),
            count: AtomicUsize::new(0),
            turn: Semaphore::new(1),
            freed: Notify::new(),
        }
    }

    /// The number of requests that wait.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Notes that an endpoint has a request less in flight, or takes requests again.
    pub(super) fn notify(&self) {
        if self.count() > 0 {
            self.freed.notify_one();
        }
    }

    /// Waits until `attempt` returns a value. A request that is spared waits longer if the queue does not drain.
    ///
    /// # Errors
    /// The limit that was reached: the queue is full, or the time is over.
    pub(super) async fn wait_for<T>(
        &self,
        is_spared: bool,
        attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, ShedReason> {
        let place = self.place().ok_or(ShedReason::MaxWaiting)?;
        let entered = Instant::now();
        let limit = self.limit(is_spared, entered);
        let is_overdue = || self.limit(is_spared, Instant::now()).1 < entered.elapsed();
        let result = tokio::time::timeout(limit.1, self.take_turn(attempt, is_overdue)).await;
        if let Some(target) = &self.target {
            target.observe(entered.elapsed(), Instant::now());
        }
        drop(place);
        // A notification that arrived after the last attempt belongs to the next request.
        self.notify();
        result.unwrap_or(Err(limit.0))
    }

    /// How long a request may wait at `now`, and the reason why not longer.
    fn limit(&self, is_spared: bool, now: Instant) -> (ShedReason, Duration) {
        let target = self.target.as_ref().and_then(|target| target.limit(is_spared, now));
        match target {
            Some(limit) if limit < self.timeout => (ShedReason::WaitTarget, limit),
            _ => (ShedReason::WaitTimeout, self.timeout),
        }
    }

    /// A request that is overdue when its turn comes, because the queue was found not to drain meanwhile, is refused.
    async fn take_turn<T>(
        &self,
        mut attempt: impl FnMut() -> Option<T>,
        is_overdue: impl Fn() -> bool,
    ) -> Result<T, ShedReason> {
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await;
        if is_overdue() {
            return Err(ShedReason::WaitTarget);
        }
        loop {
            // Registered before the attempt, so that no notification is missed.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(value) = attempt() {
                return Ok(value);
            }
            freed.await;
        }
    }

    fn place(&self) -> Option<Place<'_>> {
        let place = Place(self);
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        if count == 0
            && let Some(target) = &self.target
        {
            target.emptied();
        }
        (count < self.max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
