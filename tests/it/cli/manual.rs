//! Every command is in `docs/cli.md`, whose examples run with those of all documents (`docs`).

use super::run;
use crate::support::keygate::command;

const MANUAL: &str = include_str!("../../../docs/cli.md");

#[test]
fn every_command_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(command().args(["man", "--out"]).arg(folder.path())).code, Some(0));
    let pages = std::fs::read_dir(folder.path()).unwrap();
    let pages: Vec<String> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert!(pages.len() > 30, "{pages:?}");
    let manual = MANUAL.replace(' ', "-");
    for page in &pages {
        let name = page.strip_suffix(".1").unwrap();
        assert!(manual.contains(name), "{name} is not in docs/cli.md");
    }
}
