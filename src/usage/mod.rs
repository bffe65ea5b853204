//! Counts the requests of keys by hour. The end of a request only adds to a counter; a background task adds the counters to the store,
//! in batches.

mod cell;
mod counter;
mod metrics;
mod writer;

pub use counter::UsageCounter;
pub use metrics::Metrics;
pub use writer::{Settings, Writer, usage_counter};

#[cfg(test)]
mod tests;
