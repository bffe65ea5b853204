//! From text to a configuration, or to all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::credentials::RetiredValue;
use super::{Config, env, schema};

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
        let schema = schema::json_schema();
        env::overlay(&schema, &mut tree, variables, &mut problems);
        check_required(&tree, &mut problems);
        check_schema(&schema, &tree, &mut problems);
        problems.result(())?;
        let config: Self = serde_json::from_value(tree).map_err(|_| unreadable(name))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the rules across fields.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let mut problems = Problems::default();
        self.serve.validate(&mut problems);
        self.credentials.validate(&mut problems);
        self.secrets.validate(&mut problems);
        self.db.validate(&mut problems);
        self.cache.validate(&mut problems);
        self.rate_limit.validate(&mut problems);
        self.tracing.validate(&mut problems);
        self.multitenancy.validate(&mut problems);
        if let Some(gateway) = &self.gateway {
            gateway.validate(&mut problems);
        }
        problems.result(())
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
            problems.add(name, &format!("is not YAML that can be read{place}"));
            Value::Object(serde_json::Map::new())
        }
    }
}

fn check_required(tree: &Value, problems: &mut Problems) {
    let required = [
        ("credentials.issuer", "the name of this issuer, for example https://keys.example.com"),
        ("secrets.hmac.current", "32 characters or more; `openssl rand -hex 32` makes a good one"),
        ("db.dsn", "where keys are kept, for example sqlite://./keygate.db"),
    ];
    for (path, what) in required {
        let value = path.split('.').try_fold(tree, |value, name| value.get(name));
        if matches!(value, None | Some(Value::Null)) || value.and_then(Value::as_str) == Some("") {
            let variable = path.replace('.', "_").to_uppercase();
            problems.add(path, &format!("is required: {what}; set it here or as KEYGATE_{variable}"));
        }
    }
}

fn check_schema(schema: &Value, tree: &Value, problems: &mut Problems) {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => return problems.add("schema", &error.masked().to_string()),
    };
    for error in validator.iter_errors(tree) {
        let path = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    problems.add(&path, "is not a setting; see config/keygate.yaml for all there are");
                }
            }
            _ => problems.add(&path, &error.masked().to_string()),
        }
    }
}

fn unreadable(name: &str) -> ConfigErrors {
    let mut problems = Problems::default();
    problems.add(name, "has a value that cannot be read; check lists and times");
    ConfigErrors(problems.0)
}
