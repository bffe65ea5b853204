//! `keygate config`, and loading of the configuration file for the other commands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::output::{self, Columns, Output};
use crate::app::{check_tls, openapi_json, own_openapi_json, shared_secret_files};
use crate::config::{Config, ConfigPlace, ConfigSource, UnknownVariable, json_schema, unknown_variables};

const SETTING: &Columns =
    &[("SETTING", "path"), ("SOURCE", "source"), ("SOURCE NAME", "source_name"), ("VALUE", "value")];

const DIFFERENCE: &Columns = &[("SETTING", "path"), ("BEFORE", "before"), ("AFTER", "after")];

const CONFIG_HELP: &str = "The configuration file, YAML or JSON. Without a file and a directory, all settings are environment variables \
    [env: KEYGATE_CONFIG]";
const CONFIG_DIR_HELP: &str = "A directory of configuration files, for example a mounted ConfigMap; they are merged in the order of their \
    names [env: KEYGATE_CONFIG_DIR]";

/// The arguments `--config` and `--config-dir`.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
    #[arg(long, value_name = "DIR", conflicts_with = "config", help = CONFIG_DIR_HELP)]
    config_dir: Option<PathBuf>,
}

/// `keygate config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Validate a configuration file, including overrides from the environment and the files of certificates, without starting the server
    Check(ConfigFile),
    /// Print the effective settings with their sources: file, environment variable or default. Secrets are replaced by [REDACTED]
    Show(Show),
    /// Print the settings whose effective values differ between two files; exit code 1 if there are any
    Diff(Diff),
    /// Print the JSON schema of configuration files
    Schema,
    /// Print the OpenAPI description of the admin API
    Openapi(Openapi),
}

impl ConfigFile {
    /// The file of a command that has an argument of its own.
    pub(super) fn of(config: Option<PathBuf>) -> Self {
        Self { config, config_dir: None }
    }

    /// Loads the file, and lists the environment variables that name no setting.
    pub(super) fn load(&self) -> (anyhow::Result<Config>, Vec<UnknownVariable>) {
        load(self.place())
    }

    /// The files, with the environment.
    pub(super) fn source(&self) -> ConfigSource {
        ConfigSource::of_process(self.place())
    }

    /// An argument precedes the variables, so that an image can set `KEYGATE_CONFIG`; of these, the directory precedes the file.
    fn place(&self) -> ConfigPlace {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (&self.config, &self.config_dir) {
            (Some(file), _) => ConfigPlace::File(file.clone()),
            (None, Some(directory)) => ConfigPlace::Directory(directory.clone()),
            (None, None) => match (variable("KEYGATE_CONFIG_DIR"), variable("KEYGATE_CONFIG")) {
                (Some(directory), _) => ConfigPlace::Directory(directory),
                (None, Some(file)) => ConfigPlace::File(file),
                (None, None) => ConfigPlace::Environment,
            },
        }
    }

    /// Warnings about files with secrets that other users can read.
    pub(super) fn warnings(&self, config: &Config) -> Vec<String> {
        shared_secret_files(config, &self.source().files()).iter().map(ToString::to_string).collect()
    }
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

impl Show {
    fn run(&self) -> anyhow::Result<()> {
        let (config, unknown) = self.file.load();
        print_warnings(&unknown);
        let settings = serde_json::to_value(config?.settings()?)?;
        self.output.list(&settings, settings.as_array().map_or(&[][..], Vec::as_slice), SETTING)
    }
}

/// Arguments of `config openapi`.
#[derive(Debug, Args)]
pub(super) struct Openapi {
    /// The operations of Keygate below `/keygate/v1`, instead of those of the contract
    #[arg(long)]
    keygate: bool,
}

impl Openapi {
    fn json(&self) -> String {
        if self.keygate { own_openapi_json() } else { openapi_json() }
    }
}

/// Arguments of `config diff`.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The first configuration file
    before: PathBuf,
    /// The second configuration file
    after: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Diff {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let load = |file: &PathBuf| {
            ConfigSource::of_process(ConfigPlace::File(file.clone()))
                .load()
                .with_context(|| format!("{} is not valid", file.display()))
        };
        let differences = serde_json::to_value(load(&self.before)?.differences(&load(&self.after)?)?)?;
        let rows = differences.as_array().map_or(&[][..], Vec::as_slice);
        self.output.list(&differences, rows, DIFFERENCE)?;
        Ok(if rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl ConfigCommand {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(file) => check(file),
            Self::Show(show) => show.run(),
            Self::Diff(diff) => return diff.run(),
            Self::Schema => schema(),
            Self::Openapi(openapi) => output::print(&openapi.json()),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// Loads a configuration file and applies overrides from the environment. Lists the environment variables that name no setting.
pub(super) fn load_file(file: &Path) -> (anyhow::Result<Config>, Vec<UnknownVariable>) {
    load(ConfigPlace::File(file.to_owned()))
}

fn load(place: ConfigPlace) -> (anyhow::Result<Config>, Vec<UnknownVariable>) {
    let source = ConfigSource::of_process(place);
    let loaded = source.load().map(|loaded| loaded.config);
    (loaded.map_err(anyhow::Error::from), unknown_variables(source.variables()))
}

/// Prints a warning for each unknown variable.
pub(super) fn print_warnings(unknown: &[UnknownVariable]) {
    for variable in unknown {
        eprintln!("Warning: {variable}");
    }
}

fn check(file: &ConfigFile) -> anyhow::Result<()> {
    let (config, unknown) = file.load();
    print_warnings(&unknown);
    let config = config?;
    for warning in file.warnings(&config) {
        eprintln!("Warning: {warning}");
    }
    let problems = check_tls(&config);
    if !problems.is_empty() {
        let problems: Vec<_> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        anyhow::bail!("files that the configuration names cannot be used:{}", problems.concat());
    }
    println!("{}: the configuration is valid", file.place());
    Ok(())
}

fn schema() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&json_schema()).context("cannot serialize the schema")?);
    Ok(())
}
