//! `keygate dev`.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::keygate::{Keygate, command};
use keygate_test_servers::Process;
use keygate_test_servers::eventually;

#[tokio::test]
async fn demonstration_key_is_accepted_until_it_is_revoked() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let response = keygate.call("/hello?x=1", &keygate.secret).await;
    assert_eq!(response.status(), StatusCode::OK);
    let echo: Value = response.json().await.unwrap();
    assert_eq!((&echo["method"], &echo["path"], &echo["query"]), (&"GET".into(), &"/hello".into(), &"x=1".into()));
    assert_eq!(echo["headers"]["x-keygate-key-id"], keygate.key_id);
    assert!(echo["headers"].get("authorization").is_none());
    let without = keygate.http.get(format!("{}/hello", keygate.gateway)).send().await.unwrap();
    assert_eq!(without.status(), StatusCode::UNAUTHORIZED);
    keygate.revoke(&keygate.key_id).await;
    assert_eq!(keygate.call("/hello", &keygate.secret).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(std::fs::read_dir(keygate.path()).unwrap().count(), 0, "--ephemeral writes no files");
}

#[tokio::test]
async fn restart_keeps_keys_and_files_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Keygate::dev(&["--data", data.to_str().unwrap()]);
    let (id, secret) = (first.key_id.clone(), first.secret.clone());
    drop(first);
    let second = Keygate::dev(&["--data", data.to_str().unwrap()]);
    assert_eq!((second.key_id.as_str(), second.secret.as_str()), (id.as_str(), ""));
    assert_eq!(second.call("/", &secret).await.status(), StatusCode::OK);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for name in ["hmac-secret", "signing-keys.json"] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    for entry in std::fs::read_dir(&data).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "the secret is on disk");
    }
}

/// What `keygate dev` prints as text with a data directory, until it has printed `until`.
fn printed(data: &str, until: &str) -> String {
    let ports = ["--gateway-port", "0", "--admin-port", "0", "--metrics-port", "0"];
    let mut process = Process::start(command().args(["dev", "--data", data]).args(ports).stderr(Stdio::null()));
    let mut stdout = process.child().stdout.take().unwrap();
    let mut text = String::new();
    eventually("the text is printed", || {
        let mut buffer = [0; 4096];
        let read = stdout.read(&mut buffer).unwrap();
        assert!(read > 0, "dev has ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        text.contains(until)
    });
    text
}

#[tokio::test]
async fn revoked_demonstration_key_is_named_and_replaced_by_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let first = Keygate::dev(&["--data", data]);
    let revoked = (first.key_id.clone(), first.secret.clone());
    first.revoke(&first.key_id).await;
    drop(first);
    let text = printed(data, "another");
    assert!(text.contains("is revoked") && text.contains("keygate dev --new-key"), "{text}");
    let second = Keygate::dev(&["--data", data, "--new-key"]);
    assert!(second.key_id != revoked.0 && !second.secret.is_empty());
    assert_eq!(second.call("/", &second.secret).await.status(), StatusCode::OK);
    assert_eq!(second.call("/", &revoked.1).await.status(), StatusCode::UNAUTHORIZED);
    let new = second.key_id.clone();
    drop(second);
    // The next start uses the new key.
    let third = Keygate::dev(&["--data", data]);
    assert_eq!((third.key_id.as_str(), third.secret.as_str()), (&*new, ""));
    drop(third);
    let text = printed(data, "another");
    assert!(!text.contains("is revoked"), "{text}");
}

#[test]
fn printed_commands_return_the_printed_status() {
    let ports = ["--gateway-port", "0", "--admin-port", "0", "--metrics-port", "0"];
    let mut process = Process::start(command().args(["dev", "--ephemeral"]).args(ports).stderr(Stdio::null()));
    let mut stdout = process.child().stdout.take().unwrap();
    let mut text = String::new();
    eventually("the commands are printed", || {
        let mut buffer = [0; 4096];
        let read = stdout.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        text.matches("curl").count() == 4 && text.ends_with('\n')
    });
    for line in text.lines().filter(|line| line.trim_start().starts_with("curl")) {
        let expected = line.split("# ").nth(1).unwrap()[..3].to_owned();
        let output = Command::new("sh").arg("-c").arg(line).output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        assert!(status.starts_with(&format!("HTTP/1.1 {expected}")), "{line}\n{status}");
    }
}

#[test]
fn idle_server_exits_within_one_second() {
    for signal in ["TERM", "INT"] {
        let mut keygate = Keygate::dev(&["--ephemeral"]);
        let start = Instant::now();
        keygate.process.signal(signal);
        assert!(keygate.process.wait(Duration::from_secs(5)).success());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn port_in_use_is_reported_on_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = command().args(["dev", "--ephemeral", "--gateway-port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port} is in use")) && text.contains("--gateway-port"), "{text}");
}

#[tokio::test]
async fn requests_are_forwarded_to_the_given_upstream() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("file.txt"), "content").unwrap();
    let port = keygate_test_servers::free_port();
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory"]).arg(files.path());
    let _server = Process::start(server.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("the file server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let keygate = Keygate::dev(&["--ephemeral", "--upstream", &format!("http://127.0.0.1:{port}")]);
    let response = keygate.call("/file.txt", &keygate.secret).await;
    assert_eq!(response.text().await.unwrap(), "content");
    assert_eq!(keygate.call("/file.txt", "nonsense").await.status(), StatusCode::UNAUTHORIZED);
}
