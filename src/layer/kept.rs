//! The exchange of a request between its steps, on the heap: futures and bodies are moved often, and an exchange is large.

use std::ops::{Deref, DerefMut};

use crate::free_list::FreeList;
use crate::pipeline::Exchange;

/// How much unused memory a thread keeps, in exchanges.
const SPARES: usize = 64;

thread_local! {
    /// Memory of exchanges that have ended.
    static SPARE: FreeList<Vec<Exchange>, SPARES> = const { FreeList::new() };
}

/// An exchange. Dropping it ends the exchange.
pub(super) struct KeptExchange(
    /// One, until the drop: a list can be emptied and filled again in its place, which a box cannot.
    Vec<Exchange>,
);

impl KeptExchange {
    /// The exchange that `begin` returns.
    #[inline]
    pub(super) fn new(begin: impl FnOnce() -> Exchange) -> Self {
        let mut memory = FreeList::take(&SPARE).unwrap_or_else(|| Vec::with_capacity(1));
        memory.push(begin());
        Self(memory)
    }
}

impl Deref for KeptExchange {
    type Target = Exchange;

    #[inline]
    fn deref(&self) -> &Exchange {
        self.0.first().expect("it is taken by the drop only")
    }
}

impl DerefMut for KeptExchange {
    #[inline]
    fn deref_mut(&mut self) -> &mut Exchange {
        self.0.first_mut().expect("it is taken by the drop only")
    }
}

impl Drop for KeptExchange {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.0);
        memory.clear();
        FreeList::put(&SPARE, memory);
    }
}
