//! A real browser.

use std::process::Stdio;

use keygate_test_servers::WAIT_TIMEOUT;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// What chromium, with more arguments, shows of a page once its scripts have ended; `None` if it is not installed.
pub(crate) async fn shown(url: &str, arguments: &[&str]) -> Option<String> {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new("chromium");
    command
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--ignore-certificate-errors", "--no-proxy-server"])
        // Virtual time stands still while a response is awaited.
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .args(arguments)
        .arg(url)
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let browser = match command.spawn() {
        Ok(browser) => browser,
        Err(error) => {
            eprintln!("SKIPPED: chromium cannot be started ({error}); deploy/ci/ensure.sh test installs it");
            return None;
        }
    };
    let output = timeout(WAIT_TIMEOUT, browser.wait_with_output()).await.expect("chromium ends in time").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
