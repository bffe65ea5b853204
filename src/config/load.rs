//! Reads a configuration from YAML or JSON text and environment variables.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::problems::{ConfigErrors, Problems, REQUIRED};
use super::root::Config;
use super::sources::Sources;
use super::{check, env, schema};

impl Config {
    /// Reads a file and applies environment variables on top. Variables that name no setting are ignored here;
    /// [`unknown_variables`](super::unknown_variables) lists them.
    ///
    /// # Errors
    /// All errors, each with its path.
    pub fn load(file: &Path, variables: &BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigErrors::one(&name, &format!("cannot be read: {error}")))?;
        Self::parse(&name, &text, variables)
    }

    /// Reads YAML or JSON text and applies environment variables on top. `name` is the file name for error messages.
    ///
    /// # Errors
    /// All errors, each with its path.
    pub fn parse(name: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let mut tree = parse_tree(name, text, &mut problems);
        // Without a parsed file every required setting would be reported as missing.
        let parsed = problems.is_empty();
        let schema = schema::json_schema();
        let in_file = env::paths_in(&schema, &tree);
        let applied = env::overlay(&schema, &mut tree, variables, &mut problems);
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
        }
        problems.result(())?;
        let sources = Sources { file: name.to_owned(), in_file, variables: applied };
        let config = config.map(|config| Self { sources, ..config });
        config.ok_or_else(|| ConfigErrors::one(name, "has a value of the wrong type; check lists and times"))
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
