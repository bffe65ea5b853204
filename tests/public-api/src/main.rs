//! Compares the public API of the library with the recorded one, and reports types of other crates in it.
//!
//! The first argument is the rustdoc JSON of the library, the second the recorded API. With `UPDATE=1` the API is recorded. An item that
//! was removed or changed needs a new minor version (Semantic Versioning, before 1.0); an item that was added needs only a new record.

use std::collections::BTreeSet;
use std::process::ExitCode;

use public_api::{Builder, PublicApi};

/// Crates whose types may be part of the API, because programs that use Keygate use them as well.
const FOREIGN: [&str; 16] = [
    "alloc",
    "arc_swap",
    "axum_core",
    "bytes",
    "chrono",
    "core",
    "http",
    "http_body",
    "keygate",
    "prometheus",
    "secrecy",
    "serde",
    "serde_json",
    "std",
    "tower_layer",
    "uuid",
];
/// Traits of these crates may be implemented; rustdoc names the implementations of their derive macros.
const IMPLEMENTED: [&str; 4] = ["schemars", "serde_core", "tower_service", "thiserror"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("public API: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let (Some(json), Some(record), Some(version)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: keygate-public-api RUSTDOC_JSON RECORD VERSION".into());
    };
    let api = Builder::from_rustdoc_json(&json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|error| format!("{json}: {error}"))?;
    report_foreign(&api)?;
    let items = items(&api);
    let text = format!("# keygate {version}\n{}\n", items.join("\n"));
    let recorded = std::fs::read_to_string(&record).unwrap_or_default();
    // Sets: in which impl block and in which order methods are written is no part of the API.
    if recorded.lines().collect::<BTreeSet<_>>() == text.lines().collect() {
        println!("the public API has {} items, as recorded in {record}", items.len());
        return Ok(());
    }
    compare(&recorded, &items, &version)?;
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&record, text).map_err(|error| format!("{record}: {error}"));
    }
    Err(format!("the public API differs from {record}; record it with UPDATE=1 deploy/ci/public-api.sh"))
}

/// All items, without what pin-project-lite generates.
fn items(api: &PublicApi) -> Vec<String> {
    api.items().map(ToString::to_string).filter(|item| !item.starts_with("impl<'__pin")).collect()
}

/// Fails for an item that was removed or changed without a new minor version.
fn compare(recorded: &str, items: &[String], version: &str) -> Result<(), String> {
    let mut lines = recorded.lines();
    let before = lines.next().and_then(|line| line.strip_prefix("# keygate ")).unwrap_or_default();
    let now: BTreeSet<&str> = items.iter().map(String::as_str).collect();
    let removed: Vec<&str> = lines.filter(|item| !now.contains(item)).collect();
    if removed.is_empty() || minor(before) != minor(version) {
        return Ok(());
    }
    Err(format!("removed or changed since {before}, which needs a new minor version:\n{}", removed.join("\n")))
}

/// The part of a version whose change permits incompatible changes.
fn minor(version: &str) -> Option<&str> {
    version.rsplit_once('.').map(|(minor, _)| minor)
}

/// Fails for items that name a type of a crate which users of the library need not have, or a type of a hidden module.
fn report_foreign(api: &PublicApi) -> Result<(), String> {
    let items = items(api);
    let types: BTreeSet<&str> = items.iter().filter_map(|item| defined_type(item)).collect();
    let is_allowed = |path: &str| match path.split("::").next() {
        // A type of a hidden module that a public one exports again.
        Some("crate" | "super") => path.rsplit("::").next().is_some_and(|name| types.contains(name)),
        Some(root) => FOREIGN.contains(&root) || IMPLEMENTED.contains(&root),
        None => true,
    };
    let leaking: Vec<&str> = items.iter().map(String::as_str).filter(|item| !paths(item).all(is_allowed)).collect();
    if leaking.is_empty() { Ok(()) } else { Err(format!("types of other crates are public:\n{}", leaking.join("\n"))) }
}

/// The name of the type or trait that an item defines.
fn defined_type(item: &str) -> Option<&str> {
    let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type ", "pub use "];
    let path = kinds.iter().find_map(|kind| item.strip_prefix(kind))?;
    let path = path.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next()?;
    path.rsplit("::").next()
}

/// All paths in an item, without those of type parameters, such as `S::Error`.
fn paths(item: &str) -> impl Iterator<Item = &str> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let paths = item.split(move |c| !is_path(c)).filter(|path| path.contains("::"));
    paths.filter(|path| path.chars().next().is_some_and(char::is_lowercase))
}
