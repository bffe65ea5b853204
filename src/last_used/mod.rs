//! Records when keys were last used, to the day. Verification only adds to a queue; background tasks write in batches.

mod daily_set;
mod metrics;
mod tracker;
mod writer;

pub use daily_set::Noted;
pub use metrics::Metrics;
pub use tracker::{Tracker, tracker};
pub use writer::{Settings, Writer};

#[cfg(test)]
mod tests;
