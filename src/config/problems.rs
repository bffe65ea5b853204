//! What is wrong with a configuration: each error with the path of its setting, never with a value.

use std::collections::BTreeSet;

/// The settings that have no default, each with a description for the error message.
pub(super) const REQUIRED: [(&str, &str); 3] = [
    ("credentials.issuer", "the name of this issuer, for example https://keys.example.com"),
    ("secrets.hmac.current", "32 characters or more; `openssl rand -hex 32` makes a good one"),
    ("db.dsn", "where keys are stored, for example sqlite://./keygate.db or postgres://USER:PASSWORD@HOST/DATABASE"),
];

/// One error. Shows the path of the setting, never its value: any value may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    /// The setting, such as `serve.http.port`, or the environment variable or file.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// All errors of a configuration, ordered by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub BTreeSet<ConfigError>);

/// Collects errors, so that one run reports all of them.
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

impl ConfigErrors {
    /// A single error.
    pub(super) fn one(path: &str, message: &str) -> Self {
        Self(BTreeSet::from([ConfigError { path: path.to_owned(), message: message.to_owned() }]))
    }
}

impl Problems {
    pub(super) fn add(&mut self, path: &str, message: &str) {
        self.0.insert(ConfigError { path: path.to_owned(), message: message.to_owned() });
    }

    /// Adds an error unless the path has one already.
    pub(super) fn add_first(&mut self, path: &str, message: &str) {
        if self.0.iter().all(|error| error.path != path) {
            self.add(path, message);
        }
    }

    /// Rejects an empty value of a setting that has no default.
    pub(super) fn require(&mut self, path: &str, value: &str) {
        if value.trim().is_empty() {
            let what = REQUIRED.iter().find(|(required, _)| *required == path).map_or("a value", |(_, what)| what);
            let variable = path.replace('.', "_").to_uppercase();
            self.add(path, &format!("is required: {what}; set it here or as KEYGATE_{variable}"));
        }
    }

    /// Rejects duplicate entries of a list.
    pub(super) fn unique<T: Ord>(&mut self, path: &str, entries: impl Iterator<Item = T>) {
        let mut distinct = BTreeSet::new();
        for (index, entry) in entries.enumerate() {
            if !distinct.insert(entry) {
                self.add(&format!("{path}.{index}"), "is a duplicate; remove it");
            }
        }
    }

    /// Rejects a setting that this version does not implement and would otherwise ignore.
    pub(super) fn unsupported(&mut self, requested: bool, path: &str, instead: &str) {
        if requested {
            self.add(path, &format!("is not supported by this version; {instead}"));
        }
    }

    /// The paths with errors, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|error| error.path.as_str())
    }

    /// Adds the errors of others that are wanted.
    pub(super) fn extend(&mut self, others: Self, is_wanted: impl Fn(&ConfigError) -> bool) {
        self.0.extend(others.0.into_iter().filter(|error| is_wanted(error)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn result<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.0.is_empty() { Ok(value) } else { Err(ConfigErrors(self.0)) }
    }
}

/// The paths of the problems of a setting in YAML.
#[cfg(test)]
pub(super) fn problem_paths<T: serde::de::DeserializeOwned>(
    text: &str,
    validate: impl FnOnce(&T, &mut Problems),
) -> Vec<String> {
    let config: T = serde_saphyr::from_str(text).unwrap();
    let mut problems = Problems::default();
    validate(&config, &mut problems);
    let errors = problems.result(()).err().map(|errors| errors.0).unwrap_or_default();
    errors.into_iter().map(|error| error.path).collect()
}
