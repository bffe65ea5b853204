//! The exchange of a request between its steps, on the heap: futures and bodies are moved often, and an exchange is large.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::pipeline::Exchange;

/// How much unused memory a thread keeps, in exchanges.
const SPARES: usize = 64;

thread_local! {
    /// Memory of exchanges that have ended, so that most requests allocate none.
    static SPARE: RefCell<Vec<Vec<Exchange>>> = const { RefCell::new(Vec::new()) };
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
        let spare = SPARE.try_with(|spares| spares.try_borrow_mut().ok()?.pop()).ok().flatten();
        let mut memory = spare.unwrap_or_else(|| Vec::with_capacity(1));
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
        // A thread that ends keeps nothing.
        let _ = SPARE.try_with(|spares| {
            if let Ok(mut spares) = spares.try_borrow_mut()
                && spares.len() < SPARES
            {
                spares.push(memory);
            }
        });
    }
}
