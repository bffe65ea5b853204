//! Logs, written to stderr. Libraries log warnings and errors only, at every configured level: their more detailed messages
//! may contain parts of requests.

mod buffered_writer;

use std::io::{self, Stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};
use buffered_writer::BufferedWriter;

/// The log of the process. Dropping it writes all buffered lines.
pub struct Log(BufferedWriter<Stderr>);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Installs the logger of the process. Warnings and errors are written at once, other lines within 50 ms. If a logger is
/// installed already, it is kept.
///
/// # Errors
/// If the writer's thread cannot be started.
pub fn start_logs(config: &LogConfig) -> io::Result<Log> {
    let level = match config.level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let libraries = if config.level == LogLevel::Error { "error" } else { "warn" };
    // The access log has a switch of its own. pingora logs parts of messages that it cannot parse; the gateway logs failures and changes of
    // health itself.
    let quiet = "pingora_proxy=off,pingora_core::protocols=off,pingora_load_balancing=off";
    let filter = EnvFilter::new(format!("{libraries},{quiet},keygate={level},keygate::access=info"));
    let log = Log(BufferedWriter::start(io::stderr())?);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.0.clone());
    // Fails only if a logger is installed already.
    let _ = match config.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    Ok(log)
}
