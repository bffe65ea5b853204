//! The command line. Thin: each command calls one thing below.

mod client;
mod connection;
mod jwk;
mod keys;
mod migrate;
mod output;
mod shell;
mod suggest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::Context;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::app::{App, BUILD_TIME, COMMIT, Dev, DevOptions, Listeners, openapi_json, wait_for_stop};
use crate::config::{Config, LogConfig, LogFormat, UnknownVariable, json_schema, unknown_variables};
use crate::telemetry::start_logs;
use crate::tls::install_crypto_provider;

/// An API-key gateway: a reverse proxy that verifies every request's credential, and the admin API that issues them.
#[derive(Debug, Parser)]
#[command(name = "keygate", version = version(), disable_version_flag = true)]
struct Cli {
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    connection: connection::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine, in front of your API or a sample one, with a key in hand
    Dev(DevArgs),
    /// Run from a configuration file
    Serve(ConfigFile),
    /// Work on configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Bring the tables of the database up to date, or take them back
    Migrate(migrate::Migrate),
    /// Issue, import, verify and revoke keys at a running Keygate
    Keys(keys::Keys),
    /// Make the keys that sign tokens, and see the ones in use
    #[command(subcommand)]
    Jwk(jwk::Jwk),
    /// Print a shell's completion script
    Completions(shell::Completions),
    /// Print the manual page
    Man(shell::Man),
}

#[derive(Debug, Args)]
struct DevArgs {
    /// The API to protect, http://host:port; a built-in sample API when absent
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Where keys and secrets are kept
    #[arg(long, value_name = "DIR", default_value = "./keygate-data")]
    data: PathBuf,
    /// Keep nothing: keys and secrets are gone at the end
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,
    /// Port of the gateway; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    gateway_port: u16,
    /// Port of the admin API; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 4420)]
    admin_port: u16,
    /// Port of health and metrics; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 4422)]
    metrics_port: u16,
    /// What is printed on stdout when ready
    #[arg(long, value_enum, default_value_t = DevFormat::Text)]
    format: DevFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DevFormat {
    /// Lines for people, with commands to paste
    Text,
    /// One line of JSON
    Json,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file, YAML or JSON
    #[arg(long, value_name = "FILE", env = "KEYGATE_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Judge a file, with the environment over it, without starting anything
    Check(ConfigFile),
    /// Print the JSON schema of configuration files
    Schema,
    /// Print the OpenAPI description of the admin API
    Openapi,
}

/// Runs the command that the arguments name. Errors go to stderr, with exit code 1.
pub fn run() -> ExitCode {
    install_crypto_provider();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            let arguments = std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok());
            suggest::add_full_paths(&mut error, &Cli::command(), arguments);
            // If printing fails, there is no other place to report to.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Dev(args) => dev(args),
            Command::Serve(args) => serve(&args.config),
            Command::Config(ConfigCommand::Check(args)) => check(&args.config),
            Command::Config(ConfigCommand::Schema) => schema(),
            Command::Config(ConfigCommand::Openapi) => output::print(&openapi_json()),
            Command::Migrate(migrate) => migrate.run(),
            Command::Keys(keys) => return keys.run(&self.connection),
            Command::Jwk(jwk) => jwk.run(&self.connection),
            Command::Completions(completions) => completions.run(Self::command()),
            Command::Man(man) => man.run(Self::command()),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn version() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("version {} (commit: {COMMIT}, built: {BUILD_TIME})", env!("CARGO_PKG_VERSION")));
    &TEXT
}

fn dev(args: &DevArgs) -> anyhow::Result<()> {
    let _log = start_logs(&LogConfig { format: LogFormat::Text, ..LogConfig::default() })?;
    let dev = Dev::start(&DevOptions {
        upstream: args.upstream.clone(),
        data: (!args.ephemeral).then(|| args.data.clone()),
        gateway_port: args.gateway_port,
        admin_port: args.admin_port,
        metrics_port: args.metrics_port,
    })?;
    match args.format {
        DevFormat::Text => println!("{}", dev.to_text()),
        DevFormat::Json => println!("{}", dev.to_json()),
    }
    wait_for_stop(dev.app().background())?;
    dev.stop();
    Ok(())
}

fn serve(file: &Path) -> anyhow::Result<()> {
    let (config, unknown) = load(file);
    // Before the log is started, warnings can only be printed.
    let config = config.inspect_err(|_| print_warnings(&unknown))?;
    let _log = start_logs(&config.log)?;
    for variable in &unknown {
        tracing::warn!("{variable}");
    }
    let app = App::start(&config, Listeners::bind(&config)?)?;
    tracing::info!(
        gateway = app.gateway_address().map(tracing::field::display),
        admin = %app.admin_address(),
        metrics = %app.metrics_address(),
        "keygate {} is serving",
        env!("CARGO_PKG_VERSION"),
    );
    wait_for_stop(app.background())?;
    app.stop();
    Ok(())
}

fn check(file: &Path) -> anyhow::Result<()> {
    let (config, unknown) = load(file);
    print_warnings(&unknown);
    config?;
    println!("{}: the configuration is valid", file.display());
    Ok(())
}

fn schema() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&json_schema()).context("the schema cannot be written")?);
    Ok(())
}

/// Reads the configuration, and lists the environment variables that name no setting.
fn load(file: &Path) -> (anyhow::Result<Config>, Vec<UnknownVariable>) {
    // All settings are text, so variables that are not valid Unicode are skipped.
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    (Config::load(file, &variables).map_err(anyhow::Error::from), unknown_variables(&variables))
}

fn print_warnings(unknown: &[UnknownVariable]) {
    for variable in unknown {
        eprintln!("Warning: {variable}");
    }
}
