//! Completion scripts and manual pages.

use std::process::{Command, Stdio};

use super::{end, fail};
use crate::support::keygate::command;

const COMMANDS: [&str; 6] = ["batch-import", "derive-token", "self-revoke", "generate", "completions", "--token-file"];

#[test]
fn every_shell_has_a_script_with_every_command() {
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef keygate"), ("fish", "complete -c keygate")] {
        let ended = end(command().args(["completions", shell]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(ended.stdout.contains(sign), "{shell}");
        for name in COMMANDS {
            // fish writes long options without their dashes.
            assert!(ended.stdout.contains(name.trim_start_matches("--")), "{shell} does not know {name}");
        }
    }
}

#[test]
fn bash_completes_a_subcommand() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&script, end(command().args(["completions", "bash"])).stdout).unwrap();
    let ask = "source \"$0\"; COMP_WORDS=(keygate keys imported batch); COMP_CWORD=3; \
               _keygate keygate batch imported; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", ask]).arg(script.path()).stderr(Stdio::null()).output();
    assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "batch-import\n");
}

#[test]
fn manual_pages_are_printed_and_written() {
    let page = end(command().arg("man"));
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    for part in [".TH keygate 1", ".SH NAME", "keygate\\-keys(1)", "KEYGATE_ENDPOINT", "KEYGATE_ADMIN_TOKEN"] {
        assert!(page.stdout.contains(part), "{part} is not in the page");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/man1");
    let written = end(command().args(["man", "--out"]).arg(&out));
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
        assert!(text.is_ascii(), "{}: not every groff reads more", page.display());
        assert!(!text.contains("help(1)"), "{}: names a page that does not exist", page.display());
    }
    let error = fail(command().args(["man", "--out", "/dev/null/x"]));
    assert!(error.contains("--out /dev/null/x"), "{error}");
}

#[test]
fn the_version_is_one_line() {
    for flag in ["-v", "--version"] {
        let ended = end(command().arg(flag));
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.starts_with(concat!("keygate version ", env!("CARGO_PKG_VERSION"), " (commit: ")));
        assert_eq!(ended.stdout.lines().count(), 1);
    }
}
