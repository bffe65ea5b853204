//! Logs, on stderr. Libraries speak only when something is wrong, at any level: what they would say more may hold parts
//! of requests.

mod buffered_writer;

use std::io::{self, Stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};
use buffered_writer::Lines;

/// The log of a process. Dropped, it writes what still waits.
pub struct Log(Lines<Stderr>);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Sends all log lines of this process to stderr from now on: warnings and errors at once, others within a twentieth of a second.
/// A second call changes nothing.
///
/// # Errors
/// When there can be no thread that writes them.
pub fn start_logs(config: &LogConfig) -> io::Result<Log> {
    let level = match config.level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let libraries = if config.level == LogLevel::Error { "error" } else { "warn" };
    let filter = EnvFilter::new(format!("{libraries},keygate={level}"));
    let log = Log(Lines::to(io::stderr())?);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.0.clone());
    // It fails only where logs were started before, and then they are there.
    let _ = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => lines.with_ansi(false).try_init(),
    };
    Ok(log)
}
