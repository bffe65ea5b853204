//! Where a configuration comes from, and a configuration as it was loaded from there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::place::ConfigPlace;
use super::problems::ConfigErrors;
use super::redact::REDACTED;
use super::root::Config;
use super::secret_files;

/// Where a configuration is, and the environment variables that are applied on top of it.
#[derive(Clone)]
pub struct ConfigSource {
    place: ConfigPlace,
    variables: BTreeMap<String, String>,
}

/// A configuration, with the settings that it was read from.
#[derive(Clone)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// The tree of settings after the environment variables and the secret files were applied. It contains secrets.
    pub(super) settings: Value,
}

/// A setting that differs between two configurations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The path, such as `gateway.upstreams.orders.endpoints.0`.
    pub path: String,
    /// The effective value in the first configuration; `null` if it has none. Secrets are replaced by `[REDACTED]`.
    pub before: Value,
    /// The same in the second configuration.
    pub after: Value,
}

impl ConfigSource {
    /// A place, with the environment variables of this process.
    pub fn of_process(place: ConfigPlace) -> Self {
        // No setting has a name or a value that is not Unicode, so such variables are ignored.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { place, variables }
    }

    /// The configuration files; none if they cannot be listed.
    pub fn files(&self) -> Vec<PathBuf> {
        self.place.files().unwrap_or_default()
    }

    /// The environment variables.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Reads the files and the files of secrets that they name, and applies the environment variables.
    ///
    /// # Errors
    /// All errors, each with its path.
    pub fn load(&self) -> Result<LoadedConfig, ConfigErrors> {
        Config::load_settings(&self.place, &self.variables)
    }

    /// A digest of the names and contents of the files and of the files of secrets that `loaded` names. It changes when one of them changes,
    /// also when it can no longer be read.
    pub fn digest(&self, loaded: &LoadedConfig) -> [u8; 32] {
        let mut digest = Sha256::new();
        let named = loaded.secret_files();
        for file in self.files().iter().chain(&named) {
            digest.update(file.as_os_str().as_encoded_bytes());
            match std::fs::read(file) {
                Ok(content) => {
                    digest.update((content.len() as u64).to_be_bytes());
                    digest.update(content);
                }
                Err(error) => digest.update(error.to_string()),
            }
        }
        digest.finalize().into()
    }
}

impl LoadedConfig {
    /// The paths of the settings that differ, for example `gateway.upstreams.orders.endpoints`. Lists of mappings are compared item by
    /// item.
    pub fn changed_settings(&self, other: &Self) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        compare("", &self.settings, &other.settings, &mut changed);
        changed
    }

    /// The settings whose effective values differ. A default that only one of the configurations writes out is no difference.
    ///
    /// # Errors
    /// When a value cannot be converted to JSON.
    pub fn differences(&self, other: &Self) -> Result<Vec<Difference>, serde_json::Error> {
        let (before, after) = (serde_json::to_value(&self.config)?, serde_json::to_value(&other.config)?);
        let value = |tree: &Value, path: &str| tree.pointer(&format!("/{}", path.replace('.', "/"))).cloned();
        let difference = |path: String| Difference {
            before: value(&before, &path).unwrap_or_default(),
            after: value(&after, &path).unwrap_or_default(),
            path,
        };
        // Different secrets look the same.
        let is_different = |found: &Difference| found.before != found.after || found.before == REDACTED;
        Ok(self.changed_settings(other).into_iter().map(difference).filter(is_different).collect())
    }

    /// The files of secrets that the settings name.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        secret_files::files(&self.settings)
    }

    /// A hash of all settings, as 16 hexadecimal digits. It is keyed with the HMAC secret, so that it does not help to guess other secrets.
    /// Equal on nodes with equal settings.
    pub fn hash(&self) -> String {
        let first = self.keyed_digest().first_chunk().copied().unwrap_or_default();
        format!("{:016x}", u64::from_be_bytes(first))
    }

    /// The first 48 bits of the hash, which a metric can have as its value.
    pub fn hash_number(&self) -> i64 {
        self.keyed_digest()[..6].iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
    }

    fn keyed_digest(&self) -> [u8; 32] {
        let key = self.config.secrets.hmac.current.expose_secret();
        // A key of any length is accepted.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return [0; 32] };
        mac.update(b"keygate configuration\0");
        mac.update(self.settings.to_string().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn compare(path: &str, before: &Value, after: &Value, changed: &mut BTreeSet<String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for name in before.keys().chain(after.keys()) {
                let (before, after) = (before.get(name), after.get(name));
                compare(&below(name), before.unwrap_or(&Value::Null), after.unwrap_or(&Value::Null), changed);
            }
        }
        (Value::Object(members), Value::Null) | (Value::Null, Value::Object(members)) if !members.is_empty() => {
            for (name, value) in members {
                compare(&below(name), &Value::Null, value, changed);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&below(&index.to_string()), before, after, changed);
            }
        }
        (before, after) if before == after => {}
        _ => {
            changed.insert(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn loaded(settings: Value) -> LoadedConfig {
        let secret = "a secret of at least 32 characters".to_owned();
        let config = Config::new("https://keys.example.com".into(), secret.into(), "memory".into());
        LoadedConfig { config, settings }
    }

    fn changed(before: Value, after: Value) -> Vec<String> {
        loaded(before).changed_settings(&loaded(after)).into_iter().collect()
    }

    #[test]
    fn changed_settings_are_listed_by_their_paths() {
        let before = json!({ "a": { "b": 1, "c": 2 }, "list": [{ "x": 1 }, { "x": 2 }], "gone": { "y": 1 } });
        let after = json!({ "a": { "b": 1, "c": 3 }, "list": [{ "x": 1 }, { "x": 3 }], "new": { "z": [] } });
        assert_eq!(changed(before.clone(), after), ["a.c", "gone.y", "list.1.x", "new.z"]);
        assert!(changed(before.clone(), before).is_empty());
        assert_eq!(changed(json!({ "list": [1] }), json!({ "list": [1, 2] })), ["list"]);
    }

    #[test]
    fn hash_depends_on_settings_and_on_the_secret() {
        let (one, two) = (loaded(json!({ "a": 1 })), loaded(json!({ "a": 2 })));
        let mut other_secret = one.clone();
        other_secret.config.secrets.hmac.current = "another secret of 32 characters or more".to_owned().into();
        assert_eq!(one.hash(), loaded(json!({ "a": 1 })).hash());
        assert_eq!(one.hash().len(), 16);
        assert!(one.hash() != two.hash() && one.hash() != other_secret.hash());
        assert_eq!(format!("{:012x}", one.hash_number()), one.hash()[..12]);
    }
}
