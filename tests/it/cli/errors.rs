//! What goes wrong: exit code 1, a sentence on stderr, nothing on stdout.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;

use super::{NOWHERE, UNKNOWN, cli, end, fail, issue, json};
use crate::support::keygate::{Keygate, command};

/// A server that answers every call with the same text; it ends with the test's process.
fn canned(head: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
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
            stream.write_all(answer.as_bytes()).unwrap();
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
fn a_wrong_command_line_is_exit_code_1_too() {
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
        let error = fail(&mut cli(&keygate, arguments));
        assert!(error.contains("Usage: keygate") || error.contains("--help"), "{arguments:?}: {error}");
    }
}

#[test]
fn what_the_api_refuses_is_said_in_its_own_words() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let get = fail(&mut cli(&keygate, &["keys", "issued", "get", UNKNOWN]));
    assert_eq!(get, "Error: get issued API key: API key not found\n");
    for (arguments, action) in [
        (&["update", UNKNOWN, "--name", "n"][..], "update issued API key"),
        (&["rotate", UNKNOWN], "rotate API key"),
        (&["revoke", UNKNOWN], "revoke issued API key"),
        (&["get", "../../health"], "get issued API key"),
    ] {
        let error = fail(cli(&keygate, &["keys", "issued"]).args(arguments));
        assert_eq!(error, format!("Error: {action}: API key not found\n"));
    }
    let error = fail(&mut cli(&keygate, &["keys", "issue", "n", "--actor", ""]));
    assert!(error.starts_with("Error: issue API key: "), "{error}");
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    for arguments in [&["keys", "issued", "list"][..], &["keys", "verify", "x"], &["jwk", "get"]] {
        let error = fail(&mut at(NOWHERE, arguments));
        assert!(error.starts_with("Error: ") && error.contains(&format!("cannot reach {NOWHERE}: ")), "{error}");
        assert!(error.contains("--endpoint or KEYGATE_ENDPOINT"), "{error}");
    }
    let error = fail(&mut at("localhost:4420", &["jwk", "get"]));
    assert!(error.contains("is no http:// or https:// URL"), "{error}");
}

#[test]
fn the_flag_counts_more_than_the_environment() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let list = ["keys", "issued", "list", "-q"];
    let expected = format!("{}\n", keygate.key_id);
    assert_eq!(end(at(&keygate.admin, &list).env("KEYGATE_ENDPOINT", NOWHERE)).stdout, expected);
    let after = end(cli(&keygate, &list).env("KEYGATE_ENDPOINT", NOWHERE).args(["--endpoint", &keygate.admin]));
    assert_eq!(after.stdout, expected, "the flag may stand anywhere");
    let error = fail(at(NOWHERE, &list).env("KEYGATE_ENDPOINT", &keygate.admin));
    assert!(error.contains(NOWHERE), "{error}");
}

#[test]
fn a_proxy_is_asked_only_for_other_machines() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let proxy = canned("200 OK", r#"{"issued_api_keys":[{"key_id":"from the proxy"}],"next_page_token":""}"#);
    let list = |endpoint: &str| {
        let mut command = at(endpoint, &["keys", "issued", "list", "-q"]);
        for name in ["NO_PROXY", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        end(command.env("http_proxy", &proxy)).stdout
    };
    assert_eq!(list(&keygate.admin), format!("{}\n", keygate.key_id));
    assert_eq!(list("http://keys.example.invalid"), "from the proxy\n");
}

/// The admin API of one Keygate behind the gateway of another, whose keys are the tokens.
#[test]
fn a_token_opens_an_admin_api_that_is_behind_a_gateway() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let front = Keygate::dev(&["--ephemeral", "--upstream", &keygate.admin]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, bad) = (file("good", &format!("{}\n", front.secret)), file("bad", "a-bad-token"));
    let list = || at(&front.gateway, &["keys", "issued", "list", "-q"]);
    let expected = format!("{}\n", keygate.key_id);
    assert_eq!(end(list().env("KEYGATE_ADMIN_TOKEN", &front.secret)).stdout, expected);
    assert_eq!(end(list().args(["--token-file", &good])).stdout, expected);
    let both = end(list().args(["--token-file", &good]).env("KEYGATE_ADMIN_TOKEN", "a-bad-token"));
    assert_eq!(both.stdout, expected, "the file counts more than the variable");

    for error in [
        fail(&mut list()),
        fail(list().env("KEYGATE_ADMIN_TOKEN", "a-bad-token")),
        fail(list().args(["--token-file", &bad])),
        fail(list().args(["--token-file", &bad]).env("KEYGATE_ADMIN_TOKEN", &front.secret)),
    ] {
        assert!(error.starts_with("Error: list issued API keys: ") && error.contains("401"), "{error}");
        assert!(error.contains("--token-file or KEYGATE_ADMIN_TOKEN"), "{error}");
        assert!(!error.contains("a-bad-token") && !error.contains(&front.secret), "{error}");
    }
    for (path, words) in [(file("empty", "\n"), "no token in the file"), ("/nowhere/token".into(), "/nowhere/token")] {
        let error = fail(list().args(["--token-file", &path]));
        assert!(error.contains("--token-file") && error.contains(words), "{error}");
    }
}

#[test]
fn a_server_that_is_no_keygate_is_told_apart() {
    for (head, body, hint) in [
        ("200 OK", "<html>", "check --endpoint"),
        ("404 Not Found", "<html>", "check --endpoint"),
        ("502 Bad Gateway", "", "check --endpoint"),
        ("401 Unauthorized", r#"{"error":"who are you?"}"#, "--token-file or KEYGATE_ADMIN_TOKEN"),
        ("302 Found\r\nLocation: http://127.0.0.1:9/", "", "to where it redirects"),
    ] {
        let endpoint = canned(head, body);
        let error = fail(&mut at(&endpoint, &["keys", "issued", "get", UNKNOWN]));
        assert!(error.contains(&format!("{endpoint} answered {}", &head[..3])) && error.contains(hint), "{error}");
    }
}

#[test]
fn a_credential_of_no_known_form_is_only_an_error() {
    let verdict = r#"{"is_valid":false,"error_code":"VERIFICATION_ERROR_INVALID_FORMAT","error_message":"bad form"}"#;
    let endpoint = canned("200 OK", verdict);
    assert_eq!(fail(&mut at(&endpoint, &["keys", "verify", "x"])), "Error: verify API key: bad form\n");
}

#[test]
fn an_import_that_nobody_may_make_is_refused_once() {
    let body = r#"{"error":{"message":"no route","details":[{"reason":"NOT_FOUND"}]}}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, r#"[{"raw_key":"x","name":"n","actor_id":"ada"},{}]"#).unwrap();
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let mut command = at(&canned(status, body), &["keys", "imported", "batch-import", "-q", "--file"]);
        let error = fail(command.arg(&file));
        assert!(error.contains("Error: import API keys: 2 are left") && error.contains(": no route\n"), "{error}");
    }
}

#[test]
fn names_cannot_play_tricks_with_a_terminal() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, _) = issue(&keygate, "n");
    let name = "a\u{1b}[31m\tb\nKEY ID\tc";
    json(&keygate, &["keys", "issued", "update", &id, "--name", name]);
    for arguments in [&["keys", "issued", "get", &id][..], &["keys", "issued", "list", "--actor", "ada"]] {
        let ended = end(&mut cli(&keygate, arguments));
        assert!(!ended.stdout.contains('\u{1b}') && ended.stdout.matches("KEY ID\t").count() == 1, "{ended:?}");
    }
    assert_eq!(json(&keygate, &["keys", "issued", "get", &id])["name"], name);
}

#[test]
fn commands_of_other_groups_are_suggested_with_their_full_path() {
    for (arguments, suggestion) in [
        (
            &["keys", "revoke", "x"][..],
            "some similar subcommands exist: 'keygate keys issued revoke', 'keygate keys imported revoke'",
        ),
        (&["keys", "rotate", "x"], "a similar subcommand exists: 'keygate keys issued rotate'"),
        (&["keys", "import", "n"], "a similar subcommand exists: 'keygate keys imported import'"),
        (&["-e", NOWHERE, "keys", "import-batch"], "a similar subcommand exists: 'keygate keys imported batch-import'"),
        (&["keys", "issued", "delete", "x"], "a similar subcommand exists: 'keygate keys imported delete'"),
        (&["keys", "imported", "rotat"], "a similar subcommand exists: 'keygate keys issued rotate'"),
        (&["batch-verify"], "a similar subcommand exists: 'keygate keys batch-verify'"),
        (&["generate"], "a similar subcommand exists: 'keygate jwk generate'"),
    ] {
        let error = fail(command().args(arguments));
        assert!(error.contains(&format!("tip: {suggestion}\n")), "{arguments:?}: {error}");
    }
    let error = fail(command().args(["keys", "verfy", "x"]));
    assert!(error.contains("a similar subcommand exists: 'verify'\n"), "{error}");
    let error = fail(command().args(["keys", "nonsense"]));
    assert!(!error.contains("tip:"), "{error}");
}
