//! One coarse clock for the time limits of all connections. A limit costs a store, not a timer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;

/// How often the clock advances: limits are late by up to this time.
const TICK: Duration = Duration::from_millis(100);
/// The number of lists of connections. More than one keeps threads from waiting for each other.
const LISTS: usize = 16;
/// A time that never comes.
pub(super) const NEVER: u64 = u64::MAX;

/// The clock of all connections of a gateway.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Milliseconds since the start.
    now: AtomicU64,
    lists: [Mutex<Slab<Arc<Timers>>>; LISTS],
    next: AtomicUsize,
    is_stopping: AtomicBool,
}

/// The time limits of a connection, one for each [`Timer`].
#[derive(Debug)]
pub(crate) struct Deadlines {
    clock: Arc<Clock>,
    timers: Arc<Timers>,
    list: usize,
    entry: usize,
}

/// Times in milliseconds of the clock; [`NEVER`] for none.
#[derive(Debug)]
pub(super) struct Timers {
    read: AtomicU64,
    write: AtomicU64,
    exchange: AtomicU64,
    waker: AtomicWaker,
}

/// What a time limit is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timer {
    /// What the connection waits to receive.
    Read,
    /// What it waits to send.
    Write,
    /// The exchange in progress.
    Exchange,
}

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            now: AtomicU64::new(0),
            lists: Default::default(),
            next: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Advances the clock until the runtime ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.advance(self.started.elapsed());
        }
    }

    pub(super) fn advance(&self, elapsed: Duration) {
        let now = millis(elapsed);
        self.now.store(now, Ordering::Relaxed);
        self.wake(|timers| timers.earliest() <= now);
    }

    /// Wakes all connections, so that they end.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake(|_| true);
    }

    /// Whether connections are to end after their next response.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn wake(&self, is_due: impl Fn(&Timers) -> bool) {
        for list in &self.lists {
            for (_, timers) in list.lock().iter() {
                if is_due(timers) {
                    timers.waker.wake();
                }
            }
        }
    }

    /// Milliseconds since the start, late by up to a tick.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// This time in milliseconds of the clock.
    pub(super) fn at(&self, time: Instant) -> u64 {
        millis(time.saturating_duration_since(self.started)).min(NEVER - 1)
    }

    /// When the clock started.
    #[cfg(test)]
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The time after this time from now.
    pub(super) fn after(&self, time: Duration) -> u64 {
        self.now().saturating_add(millis(time)).min(NEVER - 1)
    }
}

impl Timers {
    fn of(&self, timer: Timer) -> &AtomicU64 {
        match timer {
            Timer::Read => &self.read,
            Timer::Write => &self.write,
            Timer::Exchange => &self.exchange,
        }
    }

    fn earliest(&self) -> u64 {
        let [read, write, exchange] =
            [&self.read, &self.write, &self.exchange].map(|timer| timer.load(Ordering::Relaxed));
        read.min(write).min(exchange)
    }
}

impl Deadlines {
    /// The limits of a new connection; none is set.
    pub(crate) fn new(clock: &Arc<Clock>) -> Self {
        let [read, write, exchange] = [NEVER; 3].map(AtomicU64::new);
        let timers = Arc::new(Timers { read, write, exchange, waker: AtomicWaker::new() });
        let list = clock.next.fetch_add(1, Ordering::Relaxed) % LISTS;
        let entry = clock.lists[list].lock().insert(Arc::clone(&timers));
        Self { clock: Arc::clone(clock), timers, list, entry }
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The clock, to be shared.
    pub(super) fn shared_clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// The time since the start of the clock, late by up to a tick.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.clock.now())
    }

    /// Sets a limit: this time from now.
    pub(crate) fn set(&self, timer: Timer, limit: Duration) {
        self.set_due(timer, self.clock.after(limit));
    }

    /// Sets a limit to this time from now if it is later.
    pub(super) fn shorten(&self, timer: Timer, limit: Duration) {
        self.timers.of(timer).fetch_min(self.clock.after(limit), Ordering::Relaxed);
    }

    /// Sets a limit to a time in milliseconds of the clock.
    pub(super) fn set_due(&self, timer: Timer, due: u64) {
        self.timers.of(timer).store(due, Ordering::Relaxed);
    }

    /// Whether a limit is set.
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.timers.of(timer).load(Ordering::Relaxed) != NEVER
    }

    /// Wakes the task that waits for a limit.
    pub(super) fn wake(&self) {
        self.timers.waker.wake();
    }

    /// Sets a limit unless one is set.
    pub(crate) fn set_if_unset(&self, timer: Timer, limit: impl FnOnce() -> Duration) {
        if self.timers.of(timer).load(Ordering::Relaxed) == NEVER {
            self.set(timer, limit());
        }
    }

    /// Removes a limit.
    pub(crate) fn clear(&self, timer: Timer) {
        self.timers.of(timer).store(NEVER, Ordering::Relaxed);
    }

    /// Whether a limit is exceeded. If not, the task of `context` is woken when a limit of the connection is, and when
    /// the clock stops.
    pub(crate) fn poll_exceeded(&self, timer: Timer, context: &Context<'_>) -> Poll<()> {
        self.timers.waker.register(context.waker());
        let due = self.timers.of(timer).load(Ordering::Relaxed);
        if self.clock.now() >= due { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The error of an exceeded limit.
    pub(crate) fn error() -> io::Error {
        io::Error::from(io::ErrorKind::TimedOut)
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.clock.lists[self.list].lock().try_remove(self.entry);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn exceeded_limit_wakes_its_connection_only() {
        let clock = Clock::new();
        let connections = [Deadlines::new(&clock), Deadlines::new(&clock)];
        let counters = [Arc::new(Counter::default()), Arc::new(Counter::default())];
        connections[0].set(Timer::Read, Duration::from_secs(2));
        for (connection, counter) in connections.iter().zip(&counters) {
            let waker = Waker::from(Arc::clone(counter));
            assert!(connection.poll_exceeded(Timer::Read, &Context::from_waker(&waker)).is_pending());
        }
        let wakes = || counters.each_ref().map(|counter| counter.0.load(Ordering::Relaxed));
        clock.advance(Duration::from_millis(1_999));
        assert_eq!(wakes(), [0, 0]);
        clock.advance(Duration::from_secs(2));
        assert_eq!(wakes(), [1, 0]);
        let context = Context::from_waker(Waker::noop());
        assert!(connections[0].poll_exceeded(Timer::Read, &context).is_ready());
        assert!(connections[0].poll_exceeded(Timer::Write, &context).is_pending());
        connections[0].clear(Timer::Read);
        assert!(connections[0].poll_exceeded(Timer::Read, &context).is_pending());
    }

    #[test]
    fn set_limit_is_kept_and_connections_are_forgotten_at_their_end() {
        let clock = Clock::new();
        let connection = Deadlines::new(&clock);
        connection.set_if_unset(Timer::Write, || Duration::from_secs(1));
        connection.set_if_unset(Timer::Write, || Duration::from_secs(9));
        clock.advance(Duration::from_secs(1));
        assert!(connection.poll_exceeded(Timer::Write, &Context::from_waker(Waker::noop())).is_ready());
        drop(connection);
        assert!(clock.lists.iter().all(|list| list.lock().is_empty()));
    }
}
