//! Completion scripts and manual pages.

use std::process::{Command, Stdio};

use super::{failure, run};
use crate::support::keygate::command;

const COMMANDS: [&str; 6] = ["batch-import", "derive-token", "self-revoke", "generate", "completions", "--key-file"];

#[test]
fn completion_scripts_contain_the_commands() {
    for (shell, marker) in [("bash", "complete -F"), ("zsh", "#compdef keygate"), ("fish", "complete -c keygate")] {
        let finished = run(command().args(["completions", shell]));
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(finished.stdout.contains(marker), "{shell}");
        for name in COMMANDS {
            // The fish script has long options without leading dashes.
            assert!(finished.stdout.contains(name.trim_start_matches("--")), "{name} is not in the script for {shell}");
        }
    }
}

#[test]
fn bash_completes_a_subcommand() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&script, run(command().args(["completions", "bash"])).stdout).unwrap();
    let complete = "source \"$0\"; COMP_WORDS=(keygate keys imported batch); COMP_CWORD=3; \
               _keygate keygate batch imported; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", complete]).arg(script.path()).stderr(Stdio::null()).output();
    assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "batch-import\n");
}

#[test]
fn manual_pages_are_printed_and_written_to_a_directory() {
    let page = run(command().arg("man"));
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    for part in [".TH keygate 1", ".SH NAME", "keygate\\-keys(1)", "KEYGATE_ENDPOINT", "KEYGATE_ADMIN_KEY"] {
        assert!(page.stdout.contains(part), "{part} is not in the page");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/man1");
    let written = run(command().args(["man", "--out"]).arg(&out));
    assert_eq!((written.code, written.stdout.as_str(), written.stderr.as_str()), (Some(0), "", ""));
    for (name, part) in [
        ("keygate.1", "keygate\\-keys(1)"),
        ("keygate-keys-issue.1", "\\-\\-rate\\-limit\\-quota"),
        ("keygate-keys-imported-batch-import.1", "\\-\\-file"),
        ("keygate-jwk-generate-eddsa.1", "\\-\\-public\\-only"),
    ] {
        let text = std::fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains(part), "{part} is not in {name}");
    }
    for page in std::fs::read_dir(&out).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.is_ascii(), "{}: some groff versions support only ASCII", page.display());
        assert!(!text.contains("help(1)"), "{}: refers to a page that does not exist", page.display());
    }
    let error = failure(command().args(["man", "--out", "/dev/null/x"]));
    assert!(error.contains("--out /dev/null/x"), "{error}");
}

#[test]
fn version_is_printed_on_one_line() {
    for flag in ["-v", "--version"] {
        let finished = run(command().arg(flag));
        assert_eq!(finished.code, Some(0));
        assert!(finished.stdout.starts_with(concat!("keygate version ", env!("CARGO_PKG_VERSION"), " (commit: ")));
        assert_eq!(finished.stdout.lines().count(), 1);
    }
}
