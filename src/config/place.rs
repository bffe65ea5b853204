//! Where the settings besides environment variables are: a file, a directory of files, or nowhere.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The ends of the names of configuration files.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Where the settings besides environment variables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigPlace {
    /// A file.
    File(PathBuf),
    /// A directory: its files `*.yaml`, `*.yml` and `*.json` are merged in the order of their names. Names that begin with a dot are not
    /// read; Kubernetes keeps earlier versions of a `ConfigMap` under such names.
    Directory(PathBuf),
    /// Nowhere: all settings are environment variables.
    Environment,
}

impl ConfigPlace {
    /// The files, in the order in which they are merged.
    ///
    /// # Errors
    /// The error of the directory.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        match self {
            Self::File(file) => Ok(vec![file.clone()]),
            Self::Directory(directory) => files_in(directory),
            Self::Environment => Ok(Vec::new()),
        }
    }
}

fn files_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_config = path.extension().is_some_and(|end| EXTENSIONS.iter().any(|known| end == *known));
        if !is_hidden && is_config {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Directory(path) => path.display().fmt(f),
            Self::Environment => f.write_str("the environment"),
        }
    }
}

/// Adds the settings of a later file to those of the earlier ones. Mappings are merged and lists of mappings are joined; of other values, the
/// later one is used. An empty section changes nothing.
pub(super) fn merge(into: &mut Value, from: Value) {
    let is_of_mappings = |items: &[Value]| items.iter().all(Value::is_object);
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) if is_of_mappings(into) && is_of_mappings(&from) => into.extend(from),
        (Value::Object(_), Value::Null) => {}
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_files_add_to_earlier_ones() {
        let mut tree =
            json!({ "a": { "b": 1, "c": 2 }, "routes": [{ "name": "x" }], "list": ["one"], "kept": { "d": 1 } });
        let later = json!({ "a": { "c": 3 }, "routes": [{ "name": "y" }], "list": ["two"], "kept": null, "new": true });
        merge(&mut tree, later);
        let expected = json!({
            "a": { "b": 1, "c": 3 }, "routes": [{ "name": "x" }, { "name": "y" }], "list": ["two"], "kept": { "d": 1 }, "new": true
        });
        assert_eq!(tree, expected);
    }

    #[test]
    fn files_are_those_of_configurations_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["20-b.yml", "10-a.yaml", "30-c.json", "README.md", ".hidden.yaml", "x.yaml.bak"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let files = ConfigPlace::Directory(folder.path().to_owned()).files().unwrap();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["10-a.yaml", "20-b.yml", "30-c.json"]);
        assert!(ConfigPlace::Directory(folder.path().join("none")).files().is_err());
    }
}
