//! The state of one connection in one word, changed without a lock, and the signal of its eviction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

const PENDING: u64 = 0;
const ACTIVE: u64 = 1;
const IDLE: u64 = 2;
const EVICTED: u64 = 3;
const STATE: u64 = 0b011;
/// The connection is in the order of the table.
const ORDERED: u64 = 0b100;
/// The bits below the time since when the connection is idle.
const TIME: u32 = 3;

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Active,
    /// Idle since a time in microseconds.
    Idle(u64),
    Evicted,
}

/// The state of one connection. Its owner changes it, and the table evicts it.
#[derive(Default)]
pub(super) struct Slot {
    word: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

/// What a change of the owner did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    /// Whether the connection is not evicted.
    pub(super) is_open: bool,
    pub(super) was_pending: bool,
    /// Whether the connection is idle and not in the order of the table.
    pub(super) is_unordered: bool,
}

impl Slot {
    pub(super) fn state(&self) -> State {
        let word = self.word.load(Ordering::Acquire);
        match word & STATE {
            PENDING => State::Pending,
            ACTIVE => State::Active,
            IDLE => State::Idle(word >> TIME),
            _ => State::Evicted,
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.state() == State::Pending
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.word.load(Ordering::Acquire) & STATE == EVICTED
    }

    pub(super) fn set_active(&self) -> Changed {
        self.change(ACTIVE)
    }

    /// Idle since `micros`, below 2^61.
    pub(super) fn set_idle(&self, micros: u64) -> Changed {
        self.change(micros << TIME | IDLE)
    }

    fn change(&self, to: u64) -> Changed {
        let next = |word: u64| (word & STATE != EVICTED).then_some(to | word & ORDERED);
        let changed = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let word = changed.unwrap_or_else(|word| word);
        Changed {
            is_open: changed.is_ok(),
            was_pending: word & STATE == PENDING,
            is_unordered: changed.is_ok() && to & STATE == IDLE && word & ORDERED == 0,
        }
    }

    /// Takes note that the connection is in the order of the table, by the time that it is idle since. `None` if it is not idle.
    pub(super) fn set_ordered(&self) -> Option<u64> {
        let next = |word: u64| (word & STATE == IDLE).then_some(word | ORDERED);
        let word = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        Some(word >> TIME)
    }

    /// Takes note that the connection is not in the order of the table, unless it is idle. False if it is idle.
    pub(super) fn set_unordered(&self) -> bool {
        let next = |word: u64| (word & STATE != IDLE).then_some(word & !ORDERED);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }

    /// Evicts the connection if it is idle since `micros`, and in the order of the table.
    pub(super) fn evict(&self, micros: u64) -> bool {
        let idle = micros << TIME | ORDERED | IDLE;
        self.word.compare_exchange(idle, EVICTED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Wakes the task that waits for the eviction.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    pub(super) fn poll_evicted(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_evicted() {
            return Poll::Ready(());
        }
        let mut waker = self.waker();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        // An eviction between the check above and the lock has found no waker.
        if self.is_evicted() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
