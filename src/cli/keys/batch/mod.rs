//! `keygate keys imported batch-import`: any number of keys, in as few calls as the API's limits allow. What is there
//! already counts as done, so a run that was interrupted is repeated as it was.

mod import;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Session;
use crate::cli::output::Columns;
use import::{Import, Outcome};

const FILE_HELP: &str = r#"A JSON array such as [{"raw_key":"...","name":"...","actor_id":"..."}]; - reads stdin"#;
const OUTCOMES: &Columns =
    &[("INDEX", "index"), ("KEY ID", "key_id"), ("NAME", "name"), ("STATUS", "status"), ("ERROR", "error")];

/// Arguments of `batch-import`.
#[derive(Debug, Args)]
pub(super) struct BatchImport {
    #[arg(long, value_name = "FILE", help = FILE_HELP)]
    file: PathBuf,
}

impl BatchImport {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<ExitCode> {
        let items = read(&self.file)?;
        let progress = bar(&items);
        let (outcomes, broken) = Import::new(&session.client, &items, &progress).run();
        progress.finish_and_clear();
        let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
        let imported = count(|outcome| matches!(outcome, Outcome::Imported(_)));
        let present = count(|outcome| matches!(outcome, Outcome::Present));
        let failed = outcomes.len() - imported - present;
        let rows: Vec<Value> =
            (0..).zip(&outcomes).map(|(index, outcome)| row(index, &items[index], outcome)).collect();
        let results: Vec<Value> = (0..).zip(&outcomes).map(|(index, outcome)| result(index, outcome)).collect();
        // As the API counts, keys that are there already are failures; the member of ours tells them apart.
        let data = json!({
            "results": results, "success_count": imported, "failure_count": present + failed, "present_count": present,
        });
        session.output.list(&data, &rows, OUTCOMES)?;
        eprintln!("{imported} imported, {present} already present, {failed} failed");
        if let Err(error) = broken {
            let left = match items.len() - outcomes.len() {
                1 => "1 is left".to_owned(),
                left => format!("{left} are left"),
            };
            return Err(error).context(format!("import API keys: {left}, run the same command again for the rest"));
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Value>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("stdin cannot be read")?;
    } else {
        let opened = File::open(file).and_then(|mut file| file.read_to_end(&mut bytes));
        opened.with_context(|| format!("--file {}", file.display()))?;
    }
    // The error's own words would quote the file, and with it keys.
    let items: Vec<Value> = serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow::anyhow!("--file: line {line}, column {column}: this is no JSON array of import requests")
    })?;
    if items.is_empty() {
        bail!("--file: there are no import requests in it");
    }
    Ok(items)
}

/// A bar for people; nothing where nobody looks.
fn bar(items: &[Value]) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} keys, {eta} left");
    let length = u64::try_from(items.len()).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// An item's line in a table.
fn row(index: usize, item: &Value, outcome: &Outcome) -> Value {
    let name = item["name"].as_str().unwrap_or_default();
    match outcome {
        Outcome::Imported(key) => json!({
            "index": index, "key_id": key["key_id"], "name": key["name"], "status": key["status"],
        }),
        Outcome::Present => json!({ "index": index, "name": name, "status": "PRESENT" }),
        Outcome::Failed { message, .. } => {
            json!({ "index": index, "name": name, "status": "FAILED", "error": message })
        }
    }
}

/// An item's result as the API writes it, with its place in the file.
fn result(index: usize, outcome: &Outcome) -> Value {
    let failed = |code: &str, message: &str| json!({ "index": index, "imported_api_key": null, "error_code": code, "error_message": message });
    match outcome {
        Outcome::Imported(key) => json!({ "index": index, "imported_api_key": key }),
        Outcome::Present => failed("BATCH_CREATE_IMPORTED_API_KEYS_ERROR_ALREADY_EXISTS", "already present"),
        Outcome::Failed { code, message } => failed(code, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_list_is_named_without_being_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        for text in ["", "{}", "[]", "[{\"raw_key\":\"secret\"}", "\"secret\"", "[{\"raw_key\":\"secret\"},]"] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", read(&file).unwrap_err());
            assert!(error.starts_with("--file") && !error.contains("secret"), "{text}: {error}");
        }
        assert!(read(&folder.path().join("none")).is_err());
    }
}
