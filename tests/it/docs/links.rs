//! Every link of the documentation to a file or a heading of the repository has its target.

use std::path::{Path, PathBuf};

use super::documents;

/// The lines of a document outside of its fenced blocks.
fn prose(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if !is_code && !is_fence {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The names of the headings in links, as GitHub makes them.
fn anchors(file: &Path) -> Vec<String> {
    let lines = prose(file).into_iter().filter(|line| line.starts_with('#'));
    let headings = lines.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let is_kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
    headings.map(|heading| heading.chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
}

/// The targets of the links on a line that are no URLs.
fn targets(line: &str) -> Vec<&str> {
    let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links.filter(|target| !target.contains("://")).collect()
}

#[test]
fn every_link_has_its_target() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (mut count, mut missing) = (0, Vec::new());
    for document in documents().into_iter().chain(["ARCHITECTURE.md".to_owned()]) {
        let file = root.join(&document);
        for line in prose(&file) {
            for target in targets(&line) {
                count += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let target_file = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
                let is_found = target_file.exists()
                    && (anchor.is_empty() || anchors(&target_file).iter().any(|heading| heading == anchor));
                if !is_found {
                    missing.push(format!("{document}: {target}"));
                }
            }
        }
    }
    assert!(count > 200 && missing.is_empty(), "{count} links, without a target: {missing:#?}");
}
