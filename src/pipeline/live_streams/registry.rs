//! The live streams of a node by their keys, and when each is verified again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::reason::EndReason;
use super::stream::WatchedStream;
use crate::cache::CacheKey;
use crate::clock::Timestamp;

/// The streams that end with their key. Bounded.
pub(in crate::pipeline) struct Registry {
    table: Mutex<Table>,
    max: usize,
    /// The number of changes of keys so far.
    changes: AtomicU64,
    /// Wakes the task that verifies.
    due: Notify,
}

#[derive(Default)]
struct Table {
    streams: HashMap<u64, Entry>,
    by_key: HashMap<CacheKey, HashSet<u64>>,
    checks: BTreeSet<(Timestamp, u64)>,
    next: u64,
}

struct Entry {
    stream: Arc<WatchedStream>,
    /// Its entry in the checks.
    check: Option<Timestamp>,
}

impl Registry {
    /// A registry of at most `max` streams.
    pub(super) fn new(max: usize) -> Self {
        Self { table: Mutex::default(), max, changes: AtomicU64::new(0), due: Notify::new() }
    }

    /// The number of changes so far. A request reads it before its credential is verified.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Adds a stream whose credential was verified when there had been `changes` changes, and which is verified again at `check`. `None`
    /// if there are too many streams.
    pub(super) fn add(&self, stream: WatchedStream, changes: u64, check: Option<Timestamp>) -> Option<u64> {
        let mut table = self.lock();
        if table.streams.len() >= self.max {
            return None;
        }
        let id = table.next;
        table.next += 1;
        table.by_key.entry(stream.subject.key()).or_default().insert(id);
        table.streams.insert(id, Entry { stream: Arc::new(stream), check: None });
        // A change after the verification may have been applied before the stream was in the table.
        let is_changed = self.changes.load(Ordering::Acquire) != changes;
        let check = if is_changed { Some(Timestamp::UNIX_EPOCH) } else { check };
        let is_earliest = table.schedule(id, check);
        drop(table);
        if is_earliest {
            self.due.notify_one();
        }
        Some(id)
    }

    /// Removes a stream. It is not ended after this has returned.
    pub(super) fn remove(&self, id: u64) {
        let mut table = self.lock();
        table.schedule(id, None);
        let Some(entry) = table.streams.remove(&id) else { return };
        let key = entry.stream.subject.key();
        if let Some(ids) = table.by_key.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                table.by_key.remove(&key);
            }
        }
    }

    /// Has the streams of a key verified at once; those of all keys if there is none.
    pub(super) fn changed(&self, key: Option<&CacheKey>) {
        // Before the table is read: a stream that is added after that sees the new number.
        self.changes.fetch_add(1, Ordering::AcqRel);
        let mut table = self.lock();
        let ids: Vec<u64> = match key {
            Some(key) => table.by_key.get(key).into_iter().flatten().copied().collect(),
            None => table.streams.keys().copied().collect(),
        };
        let is_any = !ids.is_empty();
        for id in ids {
            table.schedule(id, Some(Timestamp::UNIX_EPOCH));
        }
        drop(table);
        if is_any {
            self.due.notify_one();
        }
    }

    /// Has a stream verified again at `check`, unless it is to be verified earlier.
    pub(super) fn schedule_earlier(&self, id: u64, check: Option<Timestamp>) {
        let mut table = self.lock();
        // Its key may have changed while it was verified.
        let is_scheduled = table.streams.get(&id).is_some_and(|entry| entry.check.is_some());
        if !is_scheduled {
            table.schedule(id, check);
        }
    }

    /// Ends a stream, unless it was removed.
    pub(super) fn end(&self, id: u64, reason: EndReason) {
        // Under the lock: what ends the stream may be used for another one after it was removed.
        if let Some(entry) = self.lock().streams.get(&id) {
            entry.stream.end.end(reason);
        }
    }

    /// Takes up to `max` streams that are to be verified at `now`. None of them is scheduled any more.
    pub(super) fn take_due(&self, now: Timestamp, max: usize) -> Vec<(u64, Arc<WatchedStream>)> {
        let mut table = self.lock();
        let due: Vec<u64> =
            table.checks.iter().take_while(|(time, _)| *time <= now).take(max).map(|due| due.1).collect();
        let mut taken = Vec::with_capacity(due.len());
        for id in due {
            table.schedule(id, None);
            if let Some(entry) = table.streams.get(&id) {
                taken.push((id, Arc::clone(&entry.stream)));
            }
        }
        taken
    }

    /// When the next stream is to be verified.
    pub(super) fn next_check(&self) -> Option<Timestamp> {
        self.lock().checks.first().map(|(time, _)| *time)
    }

    /// Waits until an earlier check was scheduled.
    pub(super) async fn notified(&self) {
        self.due.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Replaces the check of a stream. Returns whether it is the first one now.
    fn schedule(&mut self, id: u64, check: Option<Timestamp>) -> bool {
        let Some(entry) = self.streams.get_mut(&id) else { return false };
        if let Some(earlier) = std::mem::replace(&mut entry.check, check) {
            self.checks.remove(&(earlier, id));
        }
        let Some(check) = check else { return false };
        self.checks.insert((check, id));
        self.checks.first() == Some(&(check, id))
    }
}
