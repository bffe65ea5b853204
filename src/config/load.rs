//! From text to a configuration, or to all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::credentials::RetiredValue;
use super::{Config, check, env, schema};

/// The settings that have no default, and what they are for.
const REQUIRED: [(&str, &str); 3] = [
    ("credentials.issuer", "the name of this issuer, for example https://keys.example.com"),
    ("secrets.hmac.current", "32 characters or more; `openssl rand -hex 32` makes a good one"),
    ("db.dsn", "where keys are kept, for example sqlite://./keygate.db or postgres://USER:PASSWORD@HOST/DATABASE"),
];

/// One thing that is wrong. Shows a path, never a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    /// The setting, such as `serve.http.port`, or the variable or file.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Everything that is wrong, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub BTreeSet<ConfigError>);

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Problems(BTreeSet<ConfigError>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} error{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Problems {
    pub(super) fn add(&mut self, path: &str, message: &str) {
        self.0.insert(ConfigError { path: path.to_owned(), message: message.to_owned() });
    }

    /// Adds a problem to a path that has none yet.
    pub(super) fn add_first(&mut self, path: &str, message: &str) {
        if self.0.iter().all(|error| error.path != path) {
            self.add(path, message);
        }
    }

    /// Refuses an empty value of a setting that has no default.
    pub(super) fn require(&mut self, path: &str, value: &str) {
        if value.trim().is_empty() {
            let what = REQUIRED.iter().find(|(required, _)| *required == path).map_or("a value", |(_, what)| what);
            let variable = path.replace('.', "_").to_uppercase();
            self.add(path, &format!("is required: {what}; set it here or as KEYGATE_{variable}"));
        }
    }

    /// Refuses entries of a list that are there twice.
    pub(super) fn unique<T: Ord>(&mut self, path: &str, entries: impl Iterator<Item = T>) {
        let mut seen = BTreeSet::new();
        for (index, entry) in entries.enumerate() {
            if !seen.insert(entry) {
                self.add(&format!("{path}.{index}"), "is in the list already; leave it out");
            }
        }
    }

    /// Refuses a setting that this version would silently ignore.
    pub(super) fn unsupported(&mut self, asked_for: bool, path: &str, instead: &str) {
        if asked_for {
            self.add(path, &format!("asks for what this version cannot do; {instead}"));
        }
    }

    pub(super) fn check_retired(&mut self, path: &str, entry: &RetiredValue) {
        if entry.read().is_none() {
            self.add(path, "has an expires_at that is no RFC 3339 time");
        }
    }

    pub(super) fn result<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.0.is_empty() { Ok(value) } else { Err(ConfigErrors(self.0)) }
    }
}

impl Config {
    /// Reads a file and the variables over it.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path.
    pub fn load(file: &Path, variables: &BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| {
            let mut problems = Problems::default();
            problems.add(&name, &format!("cannot be read: {error}"));
            ConfigErrors(problems.0)
        })?;
        Self::parse(&name, &text, variables)
    }

    /// Reads the text of a file, YAML or JSON, and the variables over it. `name` is the file's, for errors.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path.
    pub fn parse(name: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let mut tree = parse_tree(name, text, &mut problems);
        // What is said of a file that could not be read would be wrong.
        let readable = problems.0.is_empty();
        let schema = schema::json_schema();
        env::overlay(&schema, &mut tree, variables, &mut problems);
        let mut config = None;
        if readable {
            check_required(&tree, &mut problems);
            check_port(&tree, &mut problems);
            check::settle_numbers(&mut tree);
            config = Self::deserialize(&tree).ok();
            // The rules across fields come first: where both object, their words are the better ones.
            if let Some(config) = &config {
                config.collect_problems(&mut problems);
            }
            check::check(&schema, &tree, &mut problems);
        }
        problems.result(())?;
        config.ok_or_else(|| unreadable(name))
    }

    /// Checks the rules across fields.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let mut problems = Problems::default();
        self.collect_problems(&mut problems);
        problems.result(())
    }

    fn collect_problems(&self, problems: &mut Problems) {
        self.serve.validate(problems);
        self.credentials.validate(problems);
        self.secrets.validate(problems);
        self.retention.validate(problems);
        self.db.validate(problems);
        self.cache.validate(problems);
        self.tracing.validate(problems);
        self.multitenancy.validate(problems);
        if let Some(gateway) = &self.gateway {
            gateway.validate(problems);
        }
    }
}

fn parse_tree(name: &str, text: &str, problems: &mut Problems) -> Value {
    match serde_saphyr::from_str::<Value>(text) {
        Ok(tree @ Value::Object(_)) => tree,
        Ok(Value::Null) => Value::Object(serde_json::Map::new()),
        Ok(_) => {
            problems.add(name, "must hold a mapping of settings");
            Value::Object(serde_json::Map::new())
        }
        Err(error) => {
            // Only the place: the message may quote the text, and the text may be a secret.
            let place = error
                .location()
                .map_or_else(String::new, |at| format!(" at line {}, column {}", at.line(), at.column()));
            let what = match error.without_snippet() {
                serde_saphyr::Error::DuplicateMappingKey { .. } => "has a name twice in one mapping",
                serde_saphyr::Error::MultipleDocuments { .. } => "has a second document, where one is wanted,",
                _ => "is not YAML that can be read",
            };
            problems.add(name, &format!("{what}{place}"));
            Value::Object(serde_json::Map::new())
        }
    }
}

fn check_required(tree: &Value, problems: &mut Problems) {
    for (path, _) in REQUIRED {
        match path.split('.').try_fold(tree, |value, name| value.get(name)) {
            None | Some(Value::Null) => problems.require(path, ""),
            Some(value) => value.as_str().into_iter().for_each(|text| problems.require(path, text)),
        }
    }
}

/// Port 0 is for programs that bind their own sockets: of a file's, nobody would know which port was picked.
fn check_port(tree: &Value, problems: &mut Problems) {
    let address = tree.pointer("/gateway/address").and_then(Value::as_str);
    if address.and_then(|address| address.parse::<SocketAddr>().ok()).is_some_and(|address| address.port() == 0) {
        problems.add("gateway.address", "must name a port from 1 to 65535");
    }
}

fn unreadable(name: &str) -> ConfigErrors {
    let mut problems = Problems::default();
    problems.add(name, "has a value that cannot be read; check lists and times");
    ConfigErrors(problems.0)
}
