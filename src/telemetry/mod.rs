//! The log of the process, outputs of the access log, and metrics of the process, its allocator and its runtimes.

#[cfg(feature = "server")]
mod allocator_metrics;
mod buffered_writer;
#[cfg(feature = "server")]
mod log;
mod log_output;
#[cfg(feature = "server")]
mod process_metrics;
#[cfg(feature = "server")]
mod runtime_metrics;

#[cfg(feature = "server")]
pub use log::{Log, start_logs};
pub use log_output::LogOutput;
#[cfg(feature = "server")]
pub use process_metrics::register_process_metrics;
#[cfg(feature = "server")]
pub use runtime_metrics::register_runtime_metrics;
