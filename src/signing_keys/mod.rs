//! JWKS refresher: loads the keys that sign derived JWTs and refreshes them (contract, credentials section 6).

mod address;
mod error;
mod fetch;
mod metrics;
mod options;
mod refresher;
mod source;

pub use error::{Failure, SigningKeySourceError};
pub use metrics::Metrics;
pub use options::Options;
pub use refresher::SigningKeyRefresher;

#[cfg(test)]
mod tests;
