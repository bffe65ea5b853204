//! What connections of the gateway do while it stops. Whether it stops is a flag of the [`Clock`](super::deadline::Clock), which wakes all
//! connections when it is set.

use std::task::{Context, Poll};
use std::time::Duration;

use pingora::proxy::Session;

use super::deadline::{Deadlines, Timer};

/// The wait of an HTTP/1.1 connection for a request while the gateway stops. A request may be on its way already, so the connection is
/// not closed at once.
pub(super) struct LastWait {
    limit: Duration,
    is_limited: bool,
}

impl LastWait {
    /// Waits of up to `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, is_limited: false }
    }

    /// Begins a wait.
    pub(super) fn begin(&mut self) {
        self.is_limited = false;
    }

    /// Whether the limit of this wait has replaced that of [`Timer::Read`].
    pub(super) fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// Whether the wait is over, for a connection on which nothing was received. The time begins with the stop or with the wait, whichever is
    /// later. The caller has polled a limit of `deadlines` before, so that the stop wakes the task of `context`.
    pub(super) fn poll_exceeded(&mut self, deadlines: &Deadlines, context: &Context<'_>) -> Poll<()> {
        if !deadlines.clock().is_stopping() {
            return Poll::Pending;
        }
        if !self.is_limited {
            self.is_limited = true;
            deadlines.shorten(Timer::Read, self.limit);
        }
        deadlines.poll_exceeded(Timer::Read, context)
    }
}

/// Sets `Connection: close` on the response that is about to be written, if the gateway stops. Without effect on HTTP/2.
pub(super) fn announce_end(session: &mut Session) {
    if session.is_process_shutting_down() {
        session.set_keepalive(None);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::deadline::Clock;
    use super::*;

    #[test]
    fn wait_is_limited_from_the_stop_or_from_its_beginning() {
        let clock = Clock::new();
        let deadlines = Deadlines::new(&clock);
        let mut wait = LastWait::new(Duration::from_secs(5));
        let context = Context::from_waker(Waker::noop());
        let at = |seconds| clock.advance(Duration::from_secs(seconds));
        deadlines.set(Timer::Read, Duration::from_secs(60));
        wait.begin();
        at(10);
        assert!(wait.poll_exceeded(&deadlines, &context).is_pending() && !wait.is_limited());
        clock.stop();
        assert!(wait.poll_exceeded(&deadlines, &context).is_pending() && wait.is_limited());
        at(14);
        assert!(wait.poll_exceeded(&deadlines, &context).is_pending());
        at(15);
        assert!(wait.poll_exceeded(&deadlines, &context).is_ready());
        deadlines.set(Timer::Read, Duration::from_secs(60));
        wait.begin();
        assert!(wait.poll_exceeded(&deadlines, &context).is_pending());
        at(20);
        assert!(wait.poll_exceeded(&deadlines, &context).is_ready());
    }

    #[test]
    fn shorter_limit_stays() {
        let clock = Clock::new();
        let deadlines = Deadlines::new(&clock);
        let mut wait = LastWait::new(Duration::from_secs(5));
        let context = Context::from_waker(Waker::noop());
        clock.stop();
        deadlines.set(Timer::Read, Duration::from_secs(1));
        assert!(wait.poll_exceeded(&deadlines, &context).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(wait.poll_exceeded(&deadlines, &context).is_ready());
    }
}
