//! Errors: exit code 1, one line on stderr, empty stdout.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;

use super::{NOWHERE, UNKNOWN, cli, failure, issue, json, run};
use crate::support::keygate::{Keygate, command};

/// A server that sends the same response to every request. It runs until the test process exits.
fn stub_server(head: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let response = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(&stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                length = lower.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
                line.clear();
            }
            std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
        }
    });
    url
}

fn at(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = command();
    command.args(["-e", endpoint]).args(arguments);
    command
}

#[test]
fn usage_error_has_exit_code_1() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    for arguments in [
        &[][..],
        &["keys"],
        &["keys", "issue"],
        &["keys", "issue", "n"],
        &["keys", "issue", "n", "--actor", "ada", "--ttl", "soon"],
        &["keys", "issue", "n", "--actor", "ada", "--unknown"],
        &["keys", "rotate", "x"],
        &["keys", "revoke", "x"],
        &["keys", "imported", "import", "n", "--actor", "ada"],
        &["keys", "imported", "batch-import"],
        &["keys", "batch-verify"],
        &["jwk", "generate"],
        &["jwk", "generate", "hmac", "--public-only"],
        &["completions", "tcsh"],
    ] {
        let error = failure(&mut cli(&keygate, arguments));
        assert!(error.contains("Usage: keygate") || error.contains("--help"), "{arguments:?}: {error}");
    }
}

#[test]
fn api_error_message_is_printed() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let get = failure(&mut cli(&keygate, &["keys", "issued", "get", UNKNOWN]));
    assert_eq!(get, "Error: get issued API key: API key not found\n");
    for (arguments, action) in [
        (&["update", UNKNOWN, "--name", "n"][..], "update issued API key"),
        (&["rotate", UNKNOWN], "rotate API key"),
        (&["revoke", UNKNOWN], "revoke issued API key"),
        (&["get", "../../health"], "get issued API key"),
    ] {
        let error = failure(cli(&keygate, &["keys", "issued"]).args(arguments));
        assert_eq!(error, format!("Error: {action}: API key not found\n"));
    }
    let error = failure(&mut cli(&keygate, &["keys", "issue", "n", "--actor", ""]));
    assert!(error.starts_with("Error: issue API key: "), "{error}");
}

#[test]
fn connection_error_names_the_endpoint() {
    for arguments in [&["keys", "issued", "list"][..], &["keys", "verify", "x"], &["jwk", "get"]] {
        let error = failure(&mut at(NOWHERE, arguments));
        assert!(error.starts_with("Error: ") && error.contains(&format!("cannot reach {NOWHERE}: ")), "{error}");
        assert!(error.contains("--endpoint or KEYGATE_ENDPOINT"), "{error}");
    }
    let error = failure(&mut at("localhost:4420", &["jwk", "get"]));
    assert!(error.contains("is not an http:// or https:// URL"), "{error}");
}

#[test]
fn endpoint_flag_overrides_the_environment() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let list = ["keys", "issued", "list", "-q"];
    let expected = format!("{}\n", keygate.key_id);
    assert_eq!(
        run(at(&keygate.admin, &list).env("KEYGATE_ENDPOINT", NOWHERE).env("KEYGATE_ADMIN_KEY", &keygate.admin_key))
            .stdout,
        expected
    );
    let after = run(cli(&keygate, &list).env("KEYGATE_ENDPOINT", NOWHERE).args(["--endpoint", &keygate.admin]));
    assert_eq!(after.stdout, expected, "the flag may follow the command");
    let error = failure(at(NOWHERE, &list).env("KEYGATE_ENDPOINT", &keygate.admin));
    assert!(error.contains(NOWHERE), "{error}");
}

#[test]
fn proxy_is_not_used_for_loopback_endpoints() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let proxy = stub_server("200 OK", r#"{"issued_api_keys":[{"key_id":"from the proxy"}],"next_page_token":""}"#);
    let list = |endpoint: &str| {
        let mut command = at(endpoint, &["keys", "issued", "list", "-q"]);
        for name in ["NO_PROXY", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        run(command.env("http_proxy", &proxy).env("KEYGATE_ADMIN_KEY", &keygate.admin_key)).stdout
    };
    assert_eq!(list(&keygate.admin), format!("{}\n", keygate.key_id));
    assert_eq!(list("http://keys.example.invalid"), "from the proxy\n");
}

#[test]
fn admin_key_is_read_from_a_file_or_the_environment() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = &keygate.admin_key;
    let (valid, invalid) = (file("valid", &format!("{key}\n")), file("invalid", "an-invalid-key"));
    let list = || at(&keygate.admin, &["keys", "issued", "list", "-q"]);
    let expected = format!("{}\n", keygate.key_id);
    for variable in ["KEYGATE_ADMIN_KEY", "KEYGATE_ADMIN_TOKEN"] {
        assert_eq!(run(list().env(variable, key)).stdout, expected, "{variable}");
    }
    for flag in ["--key-file", "--token-file"] {
        assert_eq!(run(list().args([flag, &valid])).stdout, expected, "{flag}");
    }
    let both = run(list().args(["--key-file", &valid]).env("KEYGATE_ADMIN_KEY", "an-invalid-key"));
    assert_eq!(both.stdout, expected, "the file overrides the variable");
    let both = run(list().env("KEYGATE_ADMIN_KEY", key).env("KEYGATE_ADMIN_TOKEN", "an-invalid-key"));
    assert_eq!(both.stdout, expected, "the older variable is overridden");

    for (error, words) in [
        (failure(&mut list()), "an admin key is required"),
        (failure(list().env("KEYGATE_ADMIN_KEY", "an-invalid-key")), "the admin key is not valid"),
        (failure(list().args(["--key-file", &invalid]).env("KEYGATE_ADMIN_KEY", key)), "the admin key is not valid"),
        (failure(list().env("KEYGATE_ADMIN_KEY", &keygate.secret)), "the admin key is not valid"),
    ] {
        assert!(error.starts_with("Error: list issued API keys: ") && error.contains(words), "{error}");
        assert!(!error.contains("an-invalid-key") && !error.contains(key.as_str()), "{error}");
    }
    for (path, words) in [(file("empty", "\n"), "no key in the file"), ("/nowhere/key".into(), "/nowhere/key")] {
        let error = failure(list().args(["--key-file", &path]));
        assert!(error.contains("--key-file") && error.contains(words), "{error}");
    }
}

#[test]
fn response_of_another_server_is_reported_with_a_hint() {
    for (head, body, hint) in [
        ("200 OK", "<html>", "check --endpoint"),
        ("404 Not Found", "<html>", "check --endpoint"),
        ("502 Bad Gateway", "", "check --endpoint"),
        ("401 Unauthorized", r#"{"error":"who are you?"}"#, "--key-file or KEYGATE_ADMIN_KEY"),
        ("302 Found\r\nLocation: http://127.0.0.1:9/", "", "to the redirect target"),
    ] {
        let endpoint = stub_server(head, body);
        let error = failure(&mut at(&endpoint, &["keys", "issued", "get", UNKNOWN]));
        assert!(error.contains(&format!("{endpoint} returned {}", &head[..3])) && error.contains(hint), "{error}");
    }
}

#[test]
fn invalid_credential_format_prints_only_an_error() {
    let verdict = r#"{"is_valid":false,"error_code":"VERIFICATION_ERROR_INVALID_FORMAT","error_message":"bad form"}"#;
    let endpoint = stub_server("200 OK", verdict);
    assert_eq!(failure(&mut at(&endpoint, &["keys", "verify", "x"])), "Error: verify API key: bad form\n");
}

#[test]
fn import_without_permission_fails_with_one_error() {
    let body = r#"{"error":{"message":"no route","details":[{"reason":"NOT_FOUND"}]}}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, r#"[{"raw_key":"x","name":"n","actor_id":"ada"},{}]"#).unwrap();
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let mut command = at(&stub_server(status, body), &["keys", "imported", "batch-import", "-q", "--file"]);
        let error = failure(command.arg(&file));
        assert!(error.contains("Error: import API keys: 2 keys remain") && error.contains(": no route\n"), "{error}");
    }
}

#[test]
fn control_characters_in_names_are_escaped() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, _) = issue(&keygate, "n");
    let name = "a\u{1b}[31m\tb\nKEY ID\tc";
    json(&keygate, &["keys", "issued", "update", &id, "--name", name]);
    for arguments in [&["keys", "issued", "get", &id][..], &["keys", "issued", "list", "--actor", "ada"]] {
        let finished = run(&mut cli(&keygate, arguments));
        assert!(
            !finished.stdout.contains('\u{1b}') && finished.stdout.matches("KEY ID\t").count() == 1,
            "{finished:?}"
        );
    }
    assert_eq!(json(&keygate, &["keys", "issued", "get", &id])["name"], name);
}

#[test]
fn commands_of_other_groups_are_suggested_with_their_full_path() {
    for (arguments, suggestion) in [
        (
            &["keys", "revoke", "x"][..],
            "some similar subcommands exist: 'keygate keys issued revoke', 'keygate keys imported revoke', 'keygate admin keys revoke'",
        ),
        (
            &["keys", "rotate", "x"],
            "some similar subcommands exist: 'keygate keys issued rotate', 'keygate admin keys rotate'",
        ),
        (&["keys", "import", "n"], "a similar subcommand exists: 'keygate keys imported import'"),
        (&["-e", NOWHERE, "keys", "import-batch"], "a similar subcommand exists: 'keygate keys imported batch-import'"),
        (&["keys", "issued", "delete", "x"], "a similar subcommand exists: 'keygate keys imported delete'"),
        (
            &["keys", "imported", "rotat"],
            "some similar subcommands exist: 'keygate keys issued rotate', 'keygate admin keys rotate'",
        ),
        (&["batch-verify"], "a similar subcommand exists: 'keygate keys batch-verify'"),
        (&["generate"], "a similar subcommand exists: 'keygate jwk generate'"),
    ] {
        let error = failure(command().args(arguments));
        assert!(error.contains(&format!("tip: {suggestion}\n")), "{arguments:?}: {error}");
    }
    let error = failure(command().args(["keys", "verfy", "x"]));
    assert!(error.contains("a similar subcommand exists: 'verify'\n"), "{error}");
    let error = failure(command().args(["keys", "nonsense"]));
    assert!(!error.contains("tip:"), "{error}");
}
