//! Requests that wait for a turn because all endpoints have their maximum of requests in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

/// A bounded queue. The first request that waits gets the first endpoint that becomes free.
#[derive(Debug)]
pub(super) struct Waiting {
    max: usize,
    timeout: Duration,
    count: AtomicUsize,
    /// Its only permit belongs to the first request of the queue. The semaphore is fair.
    turn: Semaphore,
    freed: Notify,
}

/// Counts a request that waits, until it is dropped.
struct Place<'w>(&'w Waiting);

impl Waiting {
    pub(super) fn new(max: usize, timeout: Duration) -> Self {
        Self { max, timeout, count: AtomicUsize::new(0), turn: Semaphore::new(1), freed: Notify::new() }
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

    /// Waits until `attempt` returns a value. `None` if the queue is full or the time is over.
    pub(super) async fn wait_for<T>(&self, attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let place = self.place()?;
        let result = tokio::time::timeout(self.timeout, self.take_turn(attempt)).await;
        drop(place);
        // A notification that arrived after the last attempt belongs to the next request.
        self.notify();
        result.ok().flatten()
    }

    async fn take_turn<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let _turn = self.turn.acquire().await.ok()?;
        loop {
            // Registered before the attempt, so that no notification is missed.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(value) = attempt() {
                return Some(value);
            }
            freed.await;
        }
    }

    fn place(&self) -> Option<Place<'_>> {
        let place = Place(self);
        (self.count.fetch_add(1, Ordering::SeqCst) < self.max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn requests_get_their_turn_in_order() {
        let waiting = Arc::new(Waiting::new(10, Duration::from_secs(10)));
        let (free, order) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..3 {
            let (waiting_too, free, order) = (Arc::clone(&waiting), Arc::clone(&free), Arc::clone(&order));
            tasks.spawn(async move {
                let take = || free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1)).ok();
                assert!(waiting_too.wait_for(take).await.is_some());
                order.lock().unwrap().push(number);
            });
            while waiting.count() <= number {
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..3 {
            free.fetch_add(1, Ordering::SeqCst);
            waiting.notify();
        }
        while tasks.join_next().await.transpose().unwrap().is_some() {}
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert_eq!(waiting.count(), 0);
    }

    #[tokio::test]
    async fn queue_is_bounded_in_length_and_time() {
        let none = Waiting::new(0, Duration::from_secs(10));
        assert_eq!(none.wait_for(|| Some(())).await, None);
        let short = Waiting::new(1, Duration::from_millis(1));
        assert_eq!(short.wait_for(|| None::<()>).await, None);
        assert_eq!(short.count(), 0);
    }
}
