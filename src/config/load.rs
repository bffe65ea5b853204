//! Reads a configuration from YAML or JSON text and environment variables.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::other_settings::check_other_settings;
use super::place::{ConfigPlace, merge};
use super::problems::{ConfigErrors, Problems, REQUIRED};
use super::root::Config;
use super::source::LoadedConfig;
use super::sources::Sources;
use super::{check, env, schema, secret_files};

impl Config {
    /// Reads a file and applies environment variables on top. Variables that name no setting are ignored here;
    /// [`unknown_variables`](super::unknown_variables) lists them.
    ///
    /// # Errors
    /// All errors, each with its path.
    pub fn load(file: &Path, variables: &BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        Self::load_settings(&ConfigPlace::File(file.to_owned()), variables).map(|loaded| loaded.config)
    }

    /// As [`Config::load`] for any place, with the settings that the configuration was read from.
    pub(super) fn load_settings(
        place: &ConfigPlace,
        variables: &BTreeMap<String, String>,
    ) -> Result<LoadedConfig, ConfigErrors> {
        let unreadable =
            |name: &str, error: std::io::Error| ConfigErrors::one(name, &format!("cannot be read: {error}"));
        let files = place.files().map_err(|error| unreadable(&place.to_string(), error))?;
        if files.is_empty() && *place != ConfigPlace::Environment {
            return Err(ConfigErrors::one(&place.to_string(), "has no file *.yaml, *.yml or *.json"));
        }
        let mut documents = Vec::with_capacity(files.len());
        for file in files {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&name, error))?;
            documents.push((name, text));
        }
        Self::parse_settings(&place.to_string(), &documents, variables)
    }

    /// Reads YAML or JSON text and applies environment variables on top. `name` is the file name for error messages.
    ///
    /// # Errors
    /// All errors, each with its path.
    pub fn parse(name: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        let documents = [(name.to_owned(), text.to_owned())];
        Self::parse_settings(name, &documents, variables).map(|loaded| loaded.config)
    }

    /// `documents` are the names and texts of the files, and `name` is that of all of them.
    fn parse_settings(
        name: &str,
        documents: &[(String, String)],
        variables: &BTreeMap<String, String>,
    ) -> Result<LoadedConfig, ConfigErrors> {
        let mut problems = Problems::default();
        let mut tree = Value::Object(serde_json::Map::new());
        let (schema, mut in_file) = (schema::json_schema(), BTreeMap::new());
        for (name, text) in documents {
            let document = parse_tree(name, text, &mut problems);
            in_file.extend(env::paths_in(&schema, &document).into_iter().map(|path| (path, name.clone())));
            merge(&mut tree, document);
        }
        // Without a parsed file every required setting would be reported as missing.
        let parsed = problems.is_empty();
        let applied = env::overlay(&schema, &mut tree, variables, &mut problems);
        let secret_files = secret_files::overlay(&mut tree, &mut problems);
        let mut config = None;
        if parsed {
            check_required(&tree, &mut problems);
            check_port(&tree, &mut problems);
            check::normalize_numbers(&mut tree);
            config = Self::deserialize(&tree).ok();
            // Rules across fields run before the schema: their messages are more specific, and each path keeps the first.
            if let Some(config) = &config {
                config.collect_problems(&mut problems);
            }
            check::check(&schema, &tree, &mut problems);
            if config.is_none() {
                check_other_settings(&schema, &tree, &mut problems);
            }
        }
        problems.result(())?;
        let sources = Sources { in_file, variables: applied, secret_files };
        match config {
            Some(config) => Ok(LoadedConfig { config: Config { sources, ..config }, settings: tree }),
            None => Err(ConfigErrors::one(name, "has a value of the wrong type; check lists and times")),
        }
    }
}

fn parse_tree(name: &str, text: &str, problems: &mut Problems) -> Value {
    match serde_saphyr::from_str::<Value>(text) {
        Ok(tree @ Value::Object(_)) => tree,
        Ok(Value::Null) => Value::Object(serde_json::Map::new()),
        Ok(_) => {
            problems.add(name, "must contain a mapping of settings");
            Value::Object(serde_json::Map::new())
        }
        Err(error) => {
            // Only the position: the parser's message may quote the text, which may be a secret.
            let position = error
                .location()
                .map_or_else(String::new, |at| format!(" at line {}, column {}", at.line(), at.column()));
            let what = match error.without_snippet() {
                serde_saphyr::Error::DuplicateMappingKey { .. } => "has a duplicate name in one mapping",
                serde_saphyr::Error::MultipleDocuments { .. } => "has a second document; only one is allowed,",
                _ => "is not valid YAML",
            };
            problems.add(name, &format!("{what}{position}"));
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

/// Rejects port 0 in files: the chosen port would be unknown. Programs that embed Keygate may use it.
fn check_port(tree: &Value, problems: &mut Problems) {
    let listeners = tree.pointer("/gateway/listeners").and_then(Value::as_array).map_or(0, Vec::len);
    let listeners = (0..listeners).map(|index| format!("gateway.listeners.{index}.address"));
    for path in listeners.chain(["gateway.address".into(), "external_auth.address".into()]) {
        let address = tree.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str);
        if address.and_then(|address| address.parse::<SocketAddr>().ok()).is_some_and(|address| address.port() == 0) {
            problems.add(&path, "must name a port from 1 to 65535");
        }
    }
}
