//! Which new connections are admitted: caps in all, for each client address, and of pending connections.
//!
//! A connection is pending until its first request head is whole, then active while a request is in flight, and idle between requests. At
//! the cap in all, the connection that has been idle for the longest time is evicted and the new one is admitted; without an idle one, the
//! new connection is refused.
//!
//! Admitting and dropping a connection take one short lock. The two changes of state of each request take none: they exchange one word of
//! the connection. The table orders connections by the last idle time that it knows of, and corrects that order only when it selects one
//! for eviction, see `table`.

mod metrics;
mod refused;
mod slot;
mod table;
#[cfg(test)]
mod tests;

pub use metrics::ConnectionMetrics;
pub use refused::Refused;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use self::metrics::{Count, Counters, Counts};
use self::slot::{Changed, Slot};
use self::table::Table;
use crate::cidr::{CidrSet, client_network};
use crate::config::ConnectionsConfig;

/// In addition to `max`, `max / CLOSING` connections, rounded up, may be evicted and not closed yet.
pub(super) const CLOSING: usize = 16;

/// Admits the connections of one or more listeners. Clones share the caps.
#[derive(Clone)]
pub struct Admission(Arc<Shared>);

struct Shared {
    caps: ConnectionsConfig,
    exempt: CidrSet,
    table: Mutex<Table>,
    /// The number of pending connections.
    pending: AtomicUsize,
    started: Instant,
    counters: Counters,
}

/// A connection that was added to the table.
struct NewSlot {
    index: usize,
    slot: Arc<Slot>,
    /// The connection that is evicted because of the cap in all.
    evicted: Option<Arc<Slot>>,
}

/// An admitted connection. It is counted until this is dropped.
pub struct Admitted {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    index: usize,
    /// The client that it is counted for; `None` if it is exempt.
    client: Option<IpAddr>,
}

impl Admission {
    /// Admission within `caps`. Clients in `exempt` are not counted by address. `listener` is the label of the metrics.
    pub fn new(listener: &'static str, caps: ConnectionsConfig, exempt: CidrSet, metrics: &ConnectionMetrics) -> Self {
        let shared = Arc::new(Shared {
            caps,
            exempt,
            table: Mutex::default(),
            pending: AtomicUsize::new(0),
            started: Instant::now(),
            counters: metrics.counters(listener),
        });
        let counted: Arc<dyn Count> = Arc::<Shared>::clone(&shared);
        metrics.observe(listener, &counted);
        Self(shared)
    }

    /// Admits a new connection as pending. `client` is the peer of the socket, `None` for a Unix socket.
    ///
    /// # Errors
    /// [`Refused`]; the caller closes the connection. The refusal is counted.
    pub fn admit(&self, client: Option<IpAddr>) -> Result<Admitted, Refused> {
        let shared = &self.0;
        let client = shared.counted(client);
        let mut table = shared.table();
        let admitted = shared.admit(&mut table, client);
        let NewSlot { index, slot, evicted } =
            admitted.inspect_err(|refused| shared.counters.refused(*refused).inc())?;
        drop(table);
        if let Some(evicted) = evicted {
            shared.counters.evicted().inc();
            evicted.wake();
        }
        Ok(Admitted { shared: Arc::clone(shared), slot, index, client })
    }

    /// The caps.
    pub fn caps(&self) -> &ConnectionsConfig {
        &self.0.caps
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // No caller panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client that a connection is counted for.
    fn counted(&self, client: Option<IpAddr>) -> Option<IpAddr> {
        client.filter(|client| !self.exempt.contains(*client)).map(client_network)
    }

    fn admit(&self, table: &mut Table, client: Option<IpAddr>) -> Result<NewSlot, Refused> {
        if client.is_some_and(|client| table.of_client(client) >= self.caps.max_per_client) {
            return Err(Refused::MaxPerClient);
        }
        if self.pending.load(Ordering::Acquire) >= self.caps.max_pending {
            return Err(Refused::MaxPending);
        }
        let evicted = if table.open() >= self.caps.max {
            // Evicted connections close soon, but not at once. Their number is bounded as well.
            let closing_max = self.caps.max.div_ceil(CLOSING);
            let can_evict = table.closing() < closing_max;
            Some(can_evict.then(|| table.evict_oldest_idle()).flatten().ok_or(Refused::Max)?)
        } else {
            None
        };
        let slot = Arc::new(Slot::default());
        let index = table.insert(Arc::clone(&slot), client);
        self.pending.fetch_add(1, Ordering::AcqRel);
        Ok(NewSlot { index, slot, evicted })
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }
}

impl Count for Shared {
    fn counts(&self) -> Counts {
        self.table().counts()
    }
}

impl Admitted {
    /// A request head is whole. Returns false if the connection was evicted meanwhile: the owner answers the request at most, and closes.
    pub fn set_active(&self) -> bool {
        self.changed(self.slot.set_active())
    }

    /// A response is complete and no other request has begun. Returns false if the connection was evicted meanwhile: the owner closes it.
    pub fn set_idle(&self) -> bool {
        self.set_idle_at(Instant::now())
    }

    /// As [`Admitted::set_idle`], with the time of a coarse clock. A millisecond's accuracy is enough.
    pub fn set_idle_at(&self, now: Instant) -> bool {
        let changed = self.slot.set_idle(self.shared.micros(now));
        if changed.is_unordered {
            self.shared.table().order(self.index);
        }
        self.changed(changed)
    }

    /// Counts the connection for another client, for example that of a PROXY header.
    ///
    /// # Errors
    /// [`Refused::MaxPerClient`]; the caller closes the connection. The refusal is counted.
    pub fn set_client(&mut self, client: IpAddr) -> Result<(), Refused> {
        let client = self.shared.counted(Some(client));
        let mut table = self.shared.table();
        if client != self.client
            && client.is_some_and(|client| table.of_client(client) >= self.shared.caps.max_per_client)
        {
            self.shared.counters.refused(Refused::MaxPerClient).inc();
            return Err(Refused::MaxPerClient);
        }
        table.change_client(self.client, client);
        drop(table);
        self.client = client;
        Ok(())
    }

    /// Whether the connection is to be closed to make room. Costs one load.
    pub fn is_evicted(&self) -> bool {
        self.slot.is_evicted()
    }

    /// Waits until the connection is to be closed to make room.
    pub async fn evicted(&self) {
        std::future::poll_fn(|context| self.poll_evicted(context)).await;
    }

    /// As [`Admitted::evicted`], for a caller that polls. The task that polled last is woken.
    pub fn poll_evicted(&self, context: &mut Context<'_>) -> Poll<()> {
        self.slot.poll_evicted(context)
    }

    fn changed(&self, changed: Changed) -> bool {
        if changed.was_pending {
            self.shared.pending.fetch_sub(1, Ordering::AcqRel);
        }
        changed.is_open
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.slot.is_pending() {
            self.shared.pending.fetch_sub(1, Ordering::AcqRel);
        }
        self.shared.table().remove(self.index, self.client);
    }
}

impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitted").field("index", &self.index).field("client", &self.client).finish_non_exhaustive()
    }
}
