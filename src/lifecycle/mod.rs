//! The write side: issues, imports, changes, rotates, revokes and deletes keys, and derives tokens. Every change is committed
//! in the store first, then invalidated in the caches, and only then reported to the caller.

mod adopt;
mod batch;
mod batch_item;
mod delete;
mod derive;
mod error;
mod import;
mod inactive;
mod issue;
mod key_locks;
mod list;
mod log;
mod metrics;
mod new_key;
mod purge;
mod revoke;
mod rotate;
mod search;
mod settings;
mod top_keys;
mod update;
mod usage;
mod write_side;

#[doc(hidden)]
pub use adopt::{AdoptMode, Adopted};
pub use batch_item::{BatchCode, BatchItem, ItemError};
pub use derive::{DeriveToken, Derived, TokenForm};
pub use error::LifecycleError;
pub use import::ImportKey;
#[doc(hidden)]
pub use inactive::CountInactive;
pub use issue::Issued;
pub use list::{ListKeys, Page};
pub use metrics::Metrics;
pub use purge::Retention;
pub use rotate::Rotated;
pub use search::SearchKeys;
#[doc(hidden)]
pub use settings::{DerivedSettings, Settings};
pub use usage::{KeyUsage, UsagePeriod, UsageRange, UsageStep, UsageTotals};
pub use write_side::Lifecycle;

#[cfg(test)]
mod tests;
