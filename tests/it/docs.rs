//! The shell examples of `README.md` and `docs/` run as they are written, or are listed with the reason why they cannot run in a test.

mod exceptions;
mod links;
mod output;
mod placeholders;
mod script;

use std::path::Path;

use self::exceptions::{EFFECTS, NOT_COMPARED, NOT_RUN};
use self::placeholders::Placeholders;
use self::script::run;
use crate::support::documentation::{Block, blocks};
use crate::support::keygate::Keygate;

/// The languages of blocks. Shell examples are `sh`, without a prompt, and what they print is in a block `text` or `json` after them.
const LANGUAGES: [&str; 11] = ["caddyfile", "ini", "js", "json", "nginx", "rust", "sh", "sql", "text", "toml", "yaml"];

/// Documents that start their servers themselves; the examples of the others are for a `keygate dev` that runs already.
const WITH_OWN_SERVER: [&str; 1] = ["docs/quickstart.md"];

/// A shell example and the output that the document shows after it.
struct Example {
    line: usize,
    text: String,
    output: Option<Block>,
}

/// The paths of all documents.
fn documents() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    let mut documents: Vec<_> =
        files.map(|file| format!("docs/{}", file.file_name().unwrap().to_str().unwrap())).collect();
    documents.sort();
    documents.insert(0, "README.md".to_owned());
    documents
}

/// The shell examples of a document.
fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_after_example = false;
    for block in blocks(document) {
        let language = block.language.as_str();
        assert!(
            LANGUAGES.contains(&language),
            "{document}:{}: the language {language:?} is not one of {LANGUAGES:?}",
            block.line
        );
        if language == "sh" {
            examples.push(Example { line: block.line, text: block.text, output: None });
            is_after_example = true;
        } else if std::mem::take(&mut is_after_example) && block.is_adjacent && ["text", "json"].contains(&language) {
            examples.last_mut().unwrap().output = Some(block);
        }
    }
    examples
}

/// Why an example is not run.
fn reason(document: &str, example: &Example) -> Option<&'static str> {
    let of_example = |(listed, text, _): &&(&str, &str, &str)| *listed == document && example.text.contains(text);
    NOT_RUN.iter().find(of_example).map(|(_, _, reason)| *reason)
}

/// Runs the examples of a document as one script and compares what they print.
fn check(document: &str, examples: &[Example]) {
    let server = (!WITH_OWN_SERVER.contains(&document)).then(|| Keygate::dev(&["--data", "data"]));
    let placeholders = Placeholders::new(server.as_ref());
    let texts: Vec<_> = examples.iter().map(|example| placeholders.replace(&example.text)).collect();
    let finished = run(document, &texts, &placeholders);
    let is_compared = !NOT_COMPARED.iter().any(|(listed, _)| *listed == document);
    for (example, printed) in examples.iter().zip(&finished.outputs) {
        let place = format!("{document}:{}", example.line);
        output::check_statuses(&place, &example.text, printed);
        if let Some(output) = example.output.as_ref().filter(|_| is_compared) {
            output::check(&place, &output.language, &output.text, printed);
        }
    }
    for (_, printed, files) in EFFECTS.iter().filter(|(listed, ..)| *listed == document) {
        let output = finished.outputs.concat();
        printed.iter().for_each(|text| assert!(output.contains(text), "{document} prints no {text:?}: {output}"));
        files
            .iter()
            .for_each(|file| assert!(finished.folder.path().join(file).exists(), "{document} writes no {file}"));
    }
}

#[test]
fn every_shell_example_runs_or_is_listed_with_a_reason() {
    let mut is_listed = vec![false; NOT_RUN.len()];
    let mut count = 0;
    for document in documents() {
        let examples = examples(&document);
        let (not_run, run): (Vec<_>, Vec<_>) =
            examples.into_iter().partition(|example| reason(&document, example).is_some());
        for example in &not_run {
            let has = |(listed, text, _): &(&str, &str, &str)| *listed == document && example.text.contains(text);
            is_listed[NOT_RUN.iter().position(has).unwrap()] = true;
            println!("{document}:{}: not run: {}", example.line, reason(&document, example).unwrap());
        }
        if !run.is_empty() {
            println!("{document}: {} examples", run.len());
            check(&document, &run);
            count += run.len();
        }
    }
    assert!(count >= 25, "only {count} examples were found");
    let gone: Vec<_> =
        NOT_RUN.iter().zip(&is_listed).filter(|(_, is_listed)| !**is_listed).map(|(row, _)| row).collect();
    assert!(gone.is_empty(), "no document has these examples, remove them from the list: {gone:?}");
}
