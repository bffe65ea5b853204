//! Logs, written to stderr. Libraries log warnings and errors only, at every configured level: their more detailed messages
//! may contain parts of requests.

use std::io;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::log_output::LogOutput;
use crate::config::{LogConfig, LogFormat, LogLevel};

/// Writes log lines in a format.
type Format = Box<dyn Layer<Registry> + Send + Sync>;
/// What the filter is applied to.
type Formatted = tracing_subscriber::layer::Layered<reload::Layer<Format, Registry>, Registry>;

/// The log of the process. Dropping it writes all buffered lines.
pub struct Log {
    output: Arc<LogOutput>,
    format: reload::Handle<Format, Registry>,
    filter: reload::Handle<EnvFilter, Formatted>,
}

impl Log {
    /// Changes the level and the format.
    pub fn reconfigure(&self, config: &LogConfig) {
        // An error means that another logger is installed.
        let _ = self.format.reload(format(config, &self.output));
        let _ = self.filter.reload(filter(config));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.output.flush();
    }
}

/// Installs the logger of the process. Warnings and errors are written at once, other lines within 50 ms. If a logger is
/// installed already, it is kept.
///
/// # Errors
/// If the writer's thread cannot be started.
pub fn start_logs(config: &LogConfig) -> io::Result<Log> {
    let output = Arc::new(LogOutput::stderr()?);
    let (format_layer, format) = reload::Layer::new(format(config, &output));
    let (filter_layer, filter) = reload::Layer::new(filter(config));
    if tracing_subscriber::registry().with(format_layer).with(filter_layer).try_init().is_ok() {
        output.set_of_process();
    }
    Ok(Log { output, format, filter })
}

fn filter(config: &LogConfig) -> EnvFilter {
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
    EnvFilter::new(format!("{libraries},{quiet},keygate={level},keygate::access=info"))
}

fn format(config: &LogConfig, output: &LogOutput) -> Format {
    let layer = tracing_subscriber::fmt::layer().with_writer(output.writer().clone());
    match config.format {
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => layer.with_ansi(false).boxed(),
    }
}
