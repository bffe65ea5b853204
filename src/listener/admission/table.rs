//! The open connections, their number for each client, and the order of their eviction.
//!
//! The order is lazy. It has idle connections by the time since when they were idle when they were put into it; requests since then have
//! changed only their slots. As that time never goes back, it is a lower bound. Eviction takes the first entry: if its slot confirms the
//! time, it is the connection that has been idle for the longest time. A later time moves the entry back; an active connection leaves the
//! order, and its owner puts it back when it is idle again. Each entry that eviction skips was made outdated by one earlier change of
//! state, so the amortized cost of a change of state is O(log n).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::metrics::Counts;
use super::slot::{Slot, State};

/// The open connections of an admission.
#[derive(Default)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    /// The indexes of unused entries.
    free: Vec<usize>,
    /// The number of used entries.
    len: usize,
    /// The number of evicted connections that are not closed yet.
    closing: usize,
    clients: HashMap<IpAddr, usize>,
    /// Times and indexes.
    order: BTreeSet<(u64, usize)>,
}

struct Entry {
    slot: Arc<Slot>,
    /// The time by which the connection is in the order.
    ordered: Option<u64>,
}

impl Table {
    /// The number of connections that are not evicted.
    pub(super) fn open(&self) -> usize {
        self.len - self.closing
    }

    /// The number of evicted connections that are not closed yet.
    pub(super) fn closing(&self) -> usize {
        self.closing
    }

    /// The number of connections of a client.
    pub(super) fn of_client(&self, client: IpAddr) -> usize {
        self.clients.get(&client).copied().unwrap_or_default()
    }

    /// Adds a connection; returns its index.
    pub(super) fn insert(&mut self, slot: Arc<Slot>, client: Option<IpAddr>) -> usize {
        self.change_client(None, client);
        self.len += 1;
        let entry = Some(Entry { slot, ordered: None });
        if let Some(index) = self.free.pop() {
            self.entries[index] = entry;
            return index;
        }
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Removes a connection. Its owner does not change its state any more.
    pub(super) fn remove(&mut self, index: usize, client: Option<IpAddr>) {
        let Some(entry) = self.entries.get_mut(index).and_then(Option::take) else { return };
        if let Some(time) = entry.ordered {
            self.order.remove(&(time, index));
        }
        if entry.slot.is_evicted() {
            self.closing -= 1;
        }
        self.len -= 1;
        self.free.push(index);
        self.change_client(client, None);
    }

    /// Counts a connection for another client.
    pub(super) fn change_client(&mut self, from: Option<IpAddr>, to: Option<IpAddr>) {
        if let Some(to) = to {
            *self.clients.entry(to).or_default() += 1;
        }
        if let Some(from) = from
            && let Some(count) = self.clients.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&from);
            }
        }
    }

    /// Puts a connection into the order, if it is idle.
    pub(super) fn order(&mut self, index: usize) {
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        if entry.ordered.is_none()
            && let Some(time) = entry.slot.set_ordered()
        {
            entry.ordered = Some(time);
            self.order.insert((time, index));
        }
    }

    /// Evicts the connection that has been idle for the longest time. The caller wakes its owner, without the lock.
    pub(super) fn evict_oldest_idle(&mut self) -> Option<Arc<Slot>> {
        while let Some(&(time, index)) = self.order.first() {
            let Some(Some(entry)) = self.entries.get_mut(index) else {
                self.order.pop_first();
                continue;
            };
            match entry.slot.state() {
                State::Idle(since) if since == time => {
                    if entry.slot.evict(time) {
                        entry.ordered = None;
                        self.order.pop_first();
                        self.closing += 1;
                        return Some(Arc::clone(&entry.slot));
                    }
                }
                State::Idle(since) => {
                    entry.ordered = Some(since);
                    self.order.pop_first();
                    self.order.insert((since, index));
                }
                State::Pending | State::Active | State::Evicted => {
                    if entry.slot.set_unordered() {
                        entry.ordered = None;
                        self.order.pop_first();
                    }
                }
            }
        }
        None
    }

    /// The number of connections by state.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.entries.iter().flatten() {
            match entry.slot.state() {
                State::Pending => counts.pending += 1,
                State::Active => counts.active += 1,
                State::Idle(_) => counts.idle += 1,
                State::Evicted => counts.closing += 1,
            }
        }
        counts
    }

    /// The numbers of entries in all collections.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        [self.len, self.closing, self.clients.values().sum(), self.order.len()]
    }
}
