//! `keygate dev`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::{Dev, DevOptions};
use crate::config::{LogConfig, LogFormat};
use crate::telemetry::start_logs;

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// The API to protect, http://host:port; default: a built-in sample API
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Directory for keys and secrets
    #[arg(long, value_name = "DIR", default_value = "./keygate-data")]
    data: PathBuf,
    /// Store nothing on disk: keys and secrets are lost on exit
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,
    /// Issue a new demonstration key, for example because the one of this data was revoked
    #[arg(long)]
    new_key: bool,
    /// Port of the gateway; 0 selects a free port
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    gateway_port: u16,
    /// Port of the admin API; 0 selects a free port
    #[arg(long, value_name = "PORT", default_value_t = 4420)]
    admin_port: u16,
    /// Port of health checks and metrics; 0 selects a free port
    #[arg(long, value_name = "PORT", default_value_t = 4422)]
    metrics_port: u16,
    /// Format of the output on stdout when the gateway is ready
    #[arg(long, value_enum, default_value_t = DevFormat::Text)]
    format: DevFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DevFormat {
    /// Text with example commands
    Text,
    /// One line of JSON
    Json,
}

impl DevArgs {
    /// Runs the gateway until it is stopped.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let _log = start_logs(&LogConfig { format: LogFormat::Text, ..LogConfig::default() })?;
        let mut dev = Dev::start(&DevOptions {
            upstream: self.upstream.clone(),
            data: (!self.ephemeral).then(|| self.data.clone()),
            new_key: self.new_key,
            gateway_port: self.gateway_port,
            admin_port: self.admin_port,
            metrics_port: self.metrics_port,
        })?;
        match self.format {
            DevFormat::Text => println!("{}", dev.to_text()),
            DevFormat::Json => println!("{}", dev.to_json()),
        }
        dev.wait_for_stop();
        dev.stop();
        Ok(())
    }
}
