//! Ends an exchange from outside: because its credential is no longer valid, or because the upstream is too slow.
//!
//! The owner of the connection owns the future of the exchange. It drops the future when [`Ending::poll_ended`] says so: an HTTP/1.1
//! connection comes back to its owner, an HTTP/2 stream is reset. An exchange that is not watched costs one relaxed load for each poll.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::deadline::{Clock, Deadlines, NEVER, Timer};
use crate::pipeline::live_streams::{EndReason, EndStream};

/// How long the end of a frame is waited for.
const FRAME_LIMIT: Duration = Duration::from_millis(300);

/// Whether and why an exchange is to be ended.
#[derive(Debug)]
pub(super) struct Ending {
    clock: Arc<Clock>,
    /// The limits of the connection, or those of a stream that shares its connection, once there are some.
    deadlines: OnceLock<Arc<Deadlines>>,
    /// Whether something below may be set.
    is_watched: AtomicBool,
    /// One more than the index in [`EndReason::ALL`]; 0 for none.
    reason: AtomicU8,
    /// The longest silence, in milliseconds, and its reason; 0 for none.
    silence: AtomicU64,
    silence_reason: AtomicU8,
    /// When the exchange must have ended, in milliseconds of the clock.
    total: AtomicU64,
    output: AtomicU8,
    /// Whether the exchange ends when the gateway stops.
    ends_at_stop: AtomicBool,
    /// Whether the end of a frame is waited for.
    is_waiting: AtomicBool,
}

/// Where the output of a live stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputPosition {
    /// The output has no frames.
    Untracked = 0,
    /// Between two frames.
    Boundary = 1,
    /// Within a frame.
    Inside = 2,
}

/// The error of a response that did not begin in time, as the stream of the request reports it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the response did not begin in time")]
pub(super) struct LateResponse;

impl Ending {
    /// For an exchange on a connection of its own.
    pub(super) fn of_connection(deadlines: &Arc<Deadlines>) -> Self {
        Self { deadlines: OnceLock::from(Arc::clone(deadlines)), ..Self::of_stream(deadlines.shared_clock()) }
    }

    /// For an exchange that shares its connection.
    pub(super) fn of_stream(clock: &Arc<Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            deadlines: OnceLock::new(),
            is_watched: AtomicBool::new(false),
            reason: AtomicU8::new(0),
            silence: AtomicU64::new(0),
            silence_reason: AtomicU8::new(0),
            total: AtomicU64::new(NEVER),
            output: AtomicU8::new(OutputPosition::Untracked as u8),
            ends_at_stop: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
        }
    }

    /// Forgets the previous exchange.
    pub(super) fn reset(&self) {
        if !self.is_watched.swap(false, Ordering::Relaxed) {
            return;
        }
        self.reason.store(0, Ordering::Relaxed);
        self.total.store(NEVER, Ordering::Relaxed);
        self.output.store(OutputPosition::Untracked as u8, Ordering::Relaxed);
        self.ends_at_stop.store(false, Ordering::Relaxed);
        self.is_waiting.store(false, Ordering::Relaxed);
        self.unlimit_silence();
    }

    /// Has the exchange end if nothing happens for this time: from now, and from each call of [`Ending::touch`].
    pub(super) fn limit_silence(&self, limit: Duration, reason: EndReason) {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.silence_reason.store(number(reason), Ordering::Relaxed);
        self.silence.store(millis, Ordering::Relaxed);
        self.watch();
        self.touch();
    }

    /// Removes the limit of silence.
    pub(super) fn unlimit_silence(&self) {
        self.silence.store(0, Ordering::Relaxed);
        self.arm();
    }

    /// Has the exchange end at this time, whatever happens; never if there is none.
    pub(super) fn limit_total(&self, end: Option<Instant>) {
        let due = end.map_or(NEVER, |end| self.clock.at(end));
        if self.total.swap(due, Ordering::Relaxed) == NEVER && due == NEVER {
            return;
        }
        self.watch();
        self.arm();
    }

    /// Has the exchange end when the gateway stops.
    pub(super) fn end_at_stop(&self) {
        self.ends_at_stop.store(true, Ordering::Relaxed);
        self.watch();
    }

    /// Notes that something happened.
    pub(super) fn touch(&self) {
        if self.silence.load(Ordering::Relaxed) != 0 {
            self.arm();
        }
    }

    /// Notes that a part of the response waits for the client to read, on a connection that the exchange shares.
    pub(super) fn begin_write(&self) {
        if let Some(deadlines) = self.deadlines.get() {
            // The limit is that of the connection.
            deadlines.set_due(Timer::Write, NEVER - 1);
        }
    }

    /// Notes that the client has read it.
    pub(super) fn end_write(&self) {
        if let Some(deadlines) = self.deadlines.get() {
            deadlines.clear(Timer::Write);
            self.touch();
        }
    }

    /// Notes where the output is.
    pub(super) fn set_output(&self, position: OutputPosition) {
        self.output.store(position as u8, Ordering::Relaxed);
    }

    /// Why the exchange is being ended.
    pub(super) fn reason(&self) -> Option<EndReason> {
        if !self.is_watched.load(Ordering::Relaxed) {
            return None;
        }
        named(self.reason.load(Ordering::Acquire))
    }

    /// Prepares for [`EndStream::end`] by another task.
    pub(super) fn watch(&self) {
        if !self.is_watched.load(Ordering::Relaxed) {
            self.deadlines();
            self.is_watched.store(true, Ordering::Release);
        }
    }

    /// Whether the response is late that has not begun: an error for pingora, which answers the client.
    pub(super) fn poll_late(&self, context: &Context<'_>) -> Poll<io::Error> {
        if !self.is_watched.load(Ordering::Relaxed) || self.poll_due(context).is_pending() {
            return Poll::Pending;
        }
        self.unlimit_silence();
        Poll::Ready(io::Error::other(LateResponse))
    }

    /// Whether the exchange is to be dropped now. With `is_answered`, its limits count; before that they are the business of
    /// [`Ending::poll_late`].
    pub(super) fn poll_ended(&self, context: &Context<'_>, is_answered: bool) -> Poll<EndReason> {
        if !self.is_watched.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        // First the waker, then the reason: a reason that is set after this wakes the task.
        let due = self.poll_due(context);
        if let Poll::Ready(reason) = due
            && is_answered
            && self.reason().is_none()
        {
            self.set_reason(reason);
        }
        if self.ends_at_stop.load(Ordering::Relaxed) && self.clock.is_stopping() {
            self.set_reason(EndReason::ServerStopping);
        }
        let Some(reason) = self.reason() else { return Poll::Pending };
        if self.output.load(Ordering::Relaxed) != OutputPosition::Inside as u8 {
            return Poll::Ready(reason);
        }
        if self.is_waiting.swap(true, Ordering::Relaxed) {
            return due.map(|_| reason);
        }
        self.silence.store(0, Ordering::Relaxed);
        self.total.store(self.clock.after(FRAME_LIMIT), Ordering::Relaxed);
        self.arm();
        Poll::Pending
    }

    fn poll_due(&self, context: &Context<'_>) -> Poll<EndReason> {
        let deadlines = self.deadlines();
        if deadlines.poll_exceeded(Timer::Exchange, context).is_pending() {
            return Poll::Pending;
        }
        if self.clock.now() >= self.total.load(Ordering::Relaxed) {
            return Poll::Ready(EndReason::TotalTimeout);
        }
        if deadlines.is_set(Timer::Write) {
            // It is the client that is slow, which has a limit of its own.
            self.touch();
            return Poll::Pending;
        }
        named(self.silence_reason.load(Ordering::Relaxed)).map_or(Poll::Pending, Poll::Ready)
    }

    fn set_reason(&self, reason: EndReason) {
        // The first reason counts.
        let _ = self.reason.compare_exchange(0, number(reason), Ordering::AcqRel, Ordering::Relaxed);
    }

    fn arm(&self) {
        let Some(deadlines) = self.deadlines.get() else { return };
        let silence = self.silence.load(Ordering::Relaxed);
        let silent = if silence == 0 { NEVER } else { self.clock.after(Duration::from_millis(silence)) };
        deadlines.set_due(Timer::Exchange, silent.min(self.total.load(Ordering::Relaxed)));
    }

    fn deadlines(&self) -> &Arc<Deadlines> {
        self.deadlines.get_or_init(|| Arc::new(Deadlines::new(&self.clock)))
    }
}

impl EndStream for Ending {
    fn end(&self, reason: EndReason) {
        self.set_reason(reason);
        self.deadlines().wake();
    }
}

/// Runs an exchange until it has ended or is to be ended. `is_answered` tells whether its limits count.
pub(super) async fn until_ended<F: Future>(
    mut exchange: Pin<&mut F>,
    ending: &Ending,
    is_answered: impl Fn() -> bool,
) -> Result<F::Output, EndReason> {
    std::future::poll_fn(|context| match exchange.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => ending.poll_ended(context, is_answered()).map(Err),
    })
    .await
}

fn number(reason: EndReason) -> u8 {
    reason as u8 + 1
}

fn named(number: u8) -> Option<EndReason> {
    EndReason::ALL.get(usize::from(number.checked_sub(1)?)).copied()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn ending() -> (Arc<Clock>, Ending) {
        let clock = Clock::new();
        let ending = Ending::of_stream(&clock);
        (clock, ending)
    }

    fn poll(ending: &Ending, is_answered: bool) -> Poll<EndReason> {
        ending.poll_ended(&Context::from_waker(Waker::noop()), is_answered)
    }

    fn at(clock: &Clock, millis: u64) {
        clock.advance(Duration::from_millis(millis));
    }

    #[test]
    fn numbers_of_reasons_are_read_back() {
        for reason in EndReason::ALL {
            assert_eq!(named(number(reason)), Some(reason));
        }
        assert_eq!((named(0), named(200)), (None, None));
    }

    #[test]
    fn first_reason_ends_the_exchange_and_is_forgotten_with_it() {
        let (_, ending) = ending();
        assert_eq!(poll(&ending, true), Poll::Pending);
        ending.watch();
        ending.end(EndReason::Revoked);
        ending.end(EndReason::Expired);
        assert_eq!(poll(&ending, false), Poll::Ready(EndReason::Revoked));
        ending.reset();
        assert_eq!((poll(&ending, true), ending.reason()), (Poll::Pending, None));
    }

    #[test]
    fn silence_counts_from_the_last_event_and_only_after_the_answer() {
        let (clock, ending) = ending();
        ending.limit_silence(Duration::from_secs(2), EndReason::ReadTimeout);
        at(&clock, 1_500);
        ending.touch();
        at(&clock, 3_000);
        assert_eq!(poll(&ending, true), Poll::Pending);
        at(&clock, 3_500);
        assert_eq!(poll(&ending, false), Poll::Pending);
        let context = Context::from_waker(Waker::noop());
        assert_eq!(poll(&ending, true), Poll::Ready(EndReason::ReadTimeout));
        ending.reset();
        assert!(ending.poll_late(&context).is_pending());
        ending.limit_silence(Duration::from_secs(1), EndReason::FirstByteTimeout);
        at(&clock, 4_500);
        assert!(ending.poll_late(&context).is_ready());
        assert!(ending.poll_late(&context).is_pending(), "another attempt has its own limit");
    }

    #[test]
    fn time_in_which_the_client_does_not_read_is_not_silence() {
        let (clock, ending) = ending();
        ending.limit_silence(Duration::from_secs(2), EndReason::ReadTimeout);
        ending.begin_write();
        at(&clock, 5_000);
        assert_eq!(poll(&ending, true), Poll::Pending);
        ending.end_write();
        at(&clock, 6_900);
        assert_eq!(poll(&ending, true), Poll::Pending);
        at(&clock, 7_000);
        assert_eq!(poll(&ending, true), Poll::Ready(EndReason::ReadTimeout));
    }

    #[test]
    fn total_time_does_not_begin_again() {
        let (clock, ending) = ending();
        ending.limit_total(Some(clock.started() + Duration::from_secs(3)));
        ending.limit_silence(Duration::from_secs(2), EndReason::ReadTimeout);
        for second in 1..3 {
            at(&clock, second * 1_000);
            ending.touch();
            assert_eq!(poll(&ending, true), Poll::Pending);
        }
        at(&clock, 3_000);
        assert_eq!(poll(&ending, true), Poll::Ready(EndReason::TotalTimeout));
    }

    #[test]
    fn stop_ends_an_exchange_that_asked_for_it() {
        let (clock, ending) = ending();
        ending.watch();
        clock.stop();
        assert_eq!(poll(&ending, true), Poll::Pending);
        ending.end_at_stop();
        assert_eq!(poll(&ending, true), Poll::Ready(EndReason::ServerStopping));
        ending.reset();
        ending.watch();
        assert_eq!(poll(&ending, true), Poll::Pending);
    }

    #[test]
    fn end_of_a_frame_is_waited_for_but_not_for_long() {
        let (clock, ending) = ending();
        ending.watch();
        ending.set_output(OutputPosition::Inside);
        ending.end(EndReason::Revoked);
        assert_eq!(poll(&ending, true), Poll::Pending);
        ending.set_output(OutputPosition::Boundary);
        assert_eq!(poll(&ending, true), Poll::Ready(EndReason::Revoked));
        ending.set_output(OutputPosition::Inside);
        assert_eq!(poll(&ending, true), Poll::Pending);
        at(&clock, 300);
        assert_eq!(poll(&ending, true), Poll::Ready(EndReason::Revoked));
    }
}
