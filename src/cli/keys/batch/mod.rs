//! `keygate keys imported batch-import`: imports any number of keys in batches. Keys that exist count as imported, so an
//! interrupted run can be repeated unchanged.

mod import;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::session::Session;
use crate::cli::output::Columns;
use import::{Import, Outcome};

const FILE_HELP: &str = r#"File with a JSON array, [{"raw_key":"...","name":"...","actor_id":"..."}]; - reads stdin"#;
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
        let (outcomes, result) = Import::new(&session.client, &items, &progress).run();
        progress.finish_and_clear();
        let count = |matches: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| matches(outcome)).count();
        let imported = count(|outcome| matches!(outcome, Outcome::Imported(_)));
        let present = count(|outcome| matches!(outcome, Outcome::Present));
        let failed = outcomes.len() - imported - present;
        let rows: Vec<Value> =
            (0..).zip(&outcomes).map(|(index, outcome)| row(index, &items[index], outcome)).collect();
        let results: Vec<Value> = (0..).zip(&outcomes).map(|(index, outcome)| api_result(index, outcome)).collect();
        // As in the API, `failure_count` includes existing keys. `present_count` counts those separately.
        let data = json!({
            "results": results, "success_count": imported, "failure_count": present + failed, "present_count": present,
        });
        session.output.list(&data, &rows, OUTCOMES)?;
        eprintln!("{imported} imported, {present} already present, {failed} failed");
        if let Err(error) = result {
            let remaining = match items.len() - outcomes.len() {
                1 => "1 key remains".to_owned(),
                count => format!("{count} keys remain"),
            };
            return Err(error).context(format!("import API keys: {remaining}; run the same command again to continue"));
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Value>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read stdin")?;
    } else {
        let read = File::open(file).and_then(|mut file| file.read_to_end(&mut bytes));
        read.with_context(|| format!("--file {}", file.display()))?;
    }
    // The parser's message could quote raw keys from the file.
    let items: Vec<Value> = serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow::anyhow!("--file: line {line}, column {column}: not a JSON array of import requests")
    })?;
    if items.is_empty() {
        bail!("--file: no import requests in the file");
    }
    Ok(items)
}

/// A progress bar, hidden unless stderr is a terminal.
fn bar(items: &[Value]) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} keys, {eta} left");
    let length = u64::try_from(items.len()).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The table row of an item.
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

/// The result of an item in the format of the API, with its index in the file.
fn api_result(index: usize, outcome: &Outcome) -> Value {
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
    fn parse_error_does_not_quote_the_file() {
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
