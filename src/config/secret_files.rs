//! Settings whose value is in a file: `NAME_file` names the file of the secret `NAME`, for example a mounted Kubernetes secret.
//! `secrets.hmac.retired_files` names the files of retired secrets, and `tracing.header_files` those of fields by their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::problems::Problems;

/// The secrets that can be in files.
const SECRETS: [&str; 4] = ["secrets.hmac.current", "db.dsn", "cache.redis.password", "cache.redis.sentinel.password"];
/// The list of retired secrets, and that of their files.
const RETIRED: [&str; 2] = ["secrets.hmac.retired", "secrets.hmac.retired_files"];
/// The fields of exports, and their files.
const FIELDS: [&str; 2] = ["tracing.headers", "tracing.header_files"];
/// The file of the bootstrap key, which the admin API reads itself.
const BOOTSTRAP_KEY: &str = "serve.http.auth.bootstrap_key_file";
/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// Reads the files, and sets the settings that they are for. Returns the files by the paths of these settings.
pub(super) fn overlay(tree: &mut Value, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut applied = BTreeMap::new();
    for path in SECRETS {
        let setting = format!("{path}_file");
        let Some(file) = text(tree, &setting).map(PathBuf::from) else { continue };
        if text(tree, path).is_some_and(|value| !value.is_empty()) {
            problems.add(&setting, &format!("cannot be set together with {path}; remove one of them"));
            continue;
        }
        match read(&file) {
            Ok(secret) => {
                set(tree, path, secret);
                applied.insert(path.to_owned(), file.display().to_string());
            }
            Err(why) => problems.add(&setting, &why),
        }
    }
    let [retired, files] = RETIRED;
    for (index, file) in retired_files(tree).into_iter().enumerate() {
        match read(&file) {
            Ok(secret) => push(tree, retired, secret),
            Err(why) => problems.add(&format!("{files}.{index}"), &why),
        }
    }
    overlay_fields(tree, problems, &mut applied);
    applied
}

fn overlay_fields(tree: &mut Value, problems: &mut Problems, applied: &mut BTreeMap<String, String>) {
    let [fields, files] = FIELDS;
    for (name, file) in field_files(tree) {
        let setting = format!("{files}.{name}");
        let is_set = |fields: &Map<String, Value>| fields.keys().any(|field| field.eq_ignore_ascii_case(&name));
        if find(tree, fields).and_then(Value::as_object).is_some_and(is_set) {
            problems.add(&setting, &format!("cannot be set together with {fields}.{name}; remove one of them"));
            continue;
        }
        match read(&file) {
            Ok(secret) => {
                applied.insert(format!("{fields}.{name}"), file.display().to_string());
                at(tree, fields)[name] = secret.into();
            }
            Err(why) => problems.add(&setting, &why),
        }
    }
}

/// The files that a tree of settings names.
pub(super) fn files(tree: &Value) -> Vec<PathBuf> {
    let named = SECRETS.iter().filter_map(|path| text(tree, &format!("{path}_file")));
    let named = named.chain(text(tree, BOOTSTRAP_KEY));
    let fields = field_files(tree).into_iter().map(|(_, file)| file);
    named.map(PathBuf::from).chain(retired_files(tree)).chain(fields).collect()
}

/// The files of fields, by the names of these.
fn field_files(tree: &Value) -> Vec<(String, PathBuf)> {
    let files = find(tree, FIELDS[1]).and_then(Value::as_object);
    let named = files.into_iter().flatten();
    named.filter_map(|(name, file)| Some((name.clone(), PathBuf::from(file.as_str()?)))).collect()
}

fn retired_files(tree: &Value) -> Vec<PathBuf> {
    let files = find(tree, RETIRED[1]).and_then(Value::as_array);
    files.into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from).collect()
}

fn read(file: &Path) -> Result<String, String> {
    let name = file.display();
    let length = std::fs::metadata(file).map_err(|error| format!("{name} cannot be read: {error}"))?.len();
    if length > FILE_MAX {
        return Err(format!("{name} has more than {FILE_MAX} bytes, so it is no secret; name another file"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    // Editors and `kubectl create secret` add a line end.
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(format!("{name} is empty; write the secret into it")),
        secret => Ok(secret.to_owned()),
    }
}

fn text<'t>(tree: &'t Value, path: &str) -> Option<&'t str> {
    find(tree, path)?.as_str()
}

fn find<'t>(tree: &'t Value, path: &str) -> Option<&'t Value> {
    path.split('.').try_fold(tree, |tree, name| tree.get(name))
}

fn at<'t>(tree: &'t mut Value, path: &str) -> &'t mut Value {
    path.split('.').fold(tree, |tree, name| &mut tree[name])
}

fn set(tree: &mut Value, path: &str, value: String) {
    *at(tree, path) = value.into();
}

fn push(tree: &mut Value, path: &str, value: String) {
    match at(tree, path) {
        Value::Array(items) => items.push(value.into()),
        other => *other = Value::Array(vec![value.into()]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overlaid(mut tree: Value) -> Result<Value, String> {
        let mut problems = Problems::default();
        overlay(&mut tree, &mut problems);
        problems.result(tree).map_err(|errors| errors.to_string())
    }

    #[test]
    fn secret_is_read_from_its_file_without_the_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " a secret \r\n").unwrap();
        let tree = overlaid(json!({ "db": { "dsn_file": file.path() } })).unwrap();
        assert_eq!(tree["db"]["dsn"], " a secret ");
        assert_eq!(files(&tree), [file.path()]);
    }

    #[test]
    fn retired_secrets_of_files_follow_the_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "old\n").unwrap();
        for (retired, expected) in [(json!(["older"]), json!(["older", "old"])), (Value::Null, json!(["old"]))] {
            let hmac = json!({ "retired": retired, "retired_files": [file.path()] });
            let tree = overlaid(json!({ "secrets": { "hmac": hmac } })).unwrap();
            assert_eq!(tree["secrets"]["hmac"]["retired"], expected);
        }
    }

    #[test]
    fn fields_of_files_join_the_others_under_other_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Bearer x\n").unwrap();
        let tree = |headers: Value| json!({ "tracing": { "headers": headers, "header_files": { "Authorization": file.path() } } });
        for (headers, expected) in [
            (json!({ "a": "b" }), json!({ "a": "b", "Authorization": "Bearer x" })),
            (Value::Null, json!({ "Authorization": "Bearer x" })),
        ] {
            let overlaid = overlaid(tree(headers)).unwrap();
            assert_eq!((&overlaid["tracing"]["headers"], files(&overlaid)), (&expected, vec![file.path().to_owned()]));
        }
        let error = overlaid(tree(json!({ "authorization": "y" }))).unwrap_err();
        assert!(error.contains("tracing.header_files.Authorization: cannot be set together"), "{error}");
    }

    #[test]
    fn file_of_the_bootstrap_key_is_among_the_files() {
        let tree = json!({ "serve": { "http": { "auth": { "bootstrap_key_file": "/run/key" } } } });
        assert_eq!(files(&tree), [Path::new("/run/key")]);
    }

    #[test]
    fn secret_and_its_file_exclude_each_other() {
        let error = overlaid(json!({ "db": { "dsn_file": "/x", "dsn": "y" } })).unwrap_err();
        assert!(error.contains("db.dsn_file: cannot be set together with db.dsn"), "{error}");
    }

    #[test]
    fn missing_empty_and_large_files_are_errors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = |path: &Path| overlaid(json!({ "secrets": { "hmac": { "current_file": path } } })).unwrap_err();
        assert!(error(Path::new("/nonexistent")).contains("secrets.hmac.current_file: /nonexistent cannot be read"));
        assert!(error(file.path()).contains("is empty"));
        std::fs::write(file.path(), "x".repeat(65_537)).unwrap();
        assert!(error(file.path()).contains("more than 65536 bytes"));
    }
}
