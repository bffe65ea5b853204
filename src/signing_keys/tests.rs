use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use prometheus::Registry;
use serde_json::{Value, json};

use super::fetch::BODY_MAX;
use super::*;
use crate::credential::JwkError;

fn jwk(kid: &str) -> Value {
    let (x, d) = ("A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x, "d": d})
}

fn set(kids: &[&str]) -> String {
    json!({"keys": kids.iter().map(|kid| jwk(kid)).collect::<Vec<_>>()}).to_string()
}

fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn kids(refresher: &SigningKeyRefresher) -> Vec<String> {
    let text = |key: Value| key["kid"].as_str().unwrap().to_owned();
    refresher.keys().load().public_jwks().into_iter().map(text).collect()
}

fn metrics() -> Metrics {
    Metrics::register(&Registry::new()).unwrap()
}

async fn load(urls: &[&str], allow_internal: bool) -> Result<SigningKeyRefresher, SigningKeySourceError> {
    let urls: Vec<String> = urls.iter().map(|&url| url.to_owned()).collect();
    SigningKeyRefresher::load(&urls, Options { allow_internal, ..Options::default() }, metrics()).await
}

async fn failure(url: &str, allow_internal: bool) -> Failure {
    let error = load(&[url], allow_internal).await.err().unwrap();
    assert!(!error.to_string().contains("://localhost") && !error.to_string().contains("secret"), "{error}");
    error.failure
}

/// A server that sends these responses in order, and then repeats the last one.
fn serve(responses: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let next = AtomicUsize::new(0);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let index = next.fetch_add(1, Ordering::Relaxed).min(responses.len() - 1);
            // The client may have closed the connection.
            let _ = stream.write_all(&responses[index]);
        }
    });
    format!("http://localhost:{port}/keys?password=secret")
}

fn response(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn keys_are_in_the_order_of_their_sources() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&["b", "a"])).unwrap();
    let http = serve(vec![response("200 OK", &set(&["c"]))]);
    let standard = format!("base64://{}", STANDARD.encode(jwk("a").to_string()));
    let url_safe = format!("base64://{}", URL_SAFE_NO_PAD.encode(set(&["d", "ÿ?>"])));
    let refresher = load(&[&standard, &file_url(&file), &http, &url_safe], true).await.unwrap();
    assert_eq!(kids(&refresher), ["a", "b", "c", "d", "ÿ?>"]);
    assert_eq!(refresher.metrics.counts(), (1, 0, 5));
    assert!(load(&[], false).await.unwrap().keys().load().is_empty());
}

#[tokio::test]
async fn unusable_source_is_reported_by_index_and_not_by_url() {
    for (url, expected) in [
        ("ftp://localhost/secret", Failure::Scheme),
        ("secret", Failure::Scheme),
        ("base64://*secret*", Failure::Base64),
        ("base64:///w==", Failure::NotText),
        ("base64://e30=", Failure::Jwk(JwkError::NotASet)),
        ("file://secret", Failure::RelativePath),
        ("file:///nowhere/secret", Failure::File),
        ("https://", Failure::Url),
        ("http://localhost:1/secret", Failure::Internal),
        ("https://user:secret@127.0.0.1/", Failure::Internal),
        ("https://[::1]/secret", Failure::Internal),
        ("http://2130706433/secret", Failure::Internal),
        ("http://[::ffff:10.0.0.1]/secret", Failure::Internal),
    ] {
        assert_eq!(failure(url, false).await, expected, "{url}");
    }
    let first = format!("base64://{}", STANDARD.encode(set(&["a"])));
    let error = load(&[&first, "file:///nowhere/secret"], false).await.err().unwrap();
    assert_eq!(error.to_string(), "signing key source 1: is a file that cannot be read");
}

#[tokio::test]
async fn oversized_redirected_and_invalid_responses_are_rejected() {
    let long = response("200 OK", &" ".repeat(BODY_MAX + 1));
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; BODY_MAX + 1]].concat();
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec();
    for (response, expected) in [
        (long, Failure::TooLarge),
        (endless, Failure::TooLarge),
        (redirect, Failure::Status(302)),
        (response("404 Not Found", &set(&["a"])), Failure::Status(404)),
        (response("200 OK", "secret"), Failure::Jwk(JwkError::NotASet)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(), Failure::Unreachable),
        (b"secret\r\n\r\n".to_vec(), Failure::Unreachable),
    ] {
        assert_eq!(failure(&serve(vec![response]), true).await, expected);
    }
    assert_eq!(failure("http://127.0.0.1:1/secret", true).await, Failure::Unreachable);
}

#[tokio::test]
async fn oversized_file_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, " ".repeat(BODY_MAX + 1)).unwrap();
    assert_eq!(failure(&file_url(&file), false).await, Failure::TooLarge);
}

#[tokio::test]
async fn changed_file_is_reloaded_and_an_invalid_one_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("keys.json"), folder.path().join("other.json"));
    std::fs::write(&file, set(&["a"])).unwrap();
    std::fs::write(&other, set(&["z"])).unwrap();
    let refresher = load(&[&file_url(&file), &file_url(&other)], false).await.unwrap();
    let shared = refresher.keys();
    refresher.refresh_files().await;
    assert_eq!(refresher.metrics.counts(), (1, 0, 2), "unchanged files are not read");
    std::fs::write(&file, set(&["a", "b"])).unwrap();
    refresher.refresh_files().await;
    assert_eq!((kids(&refresher), shared.load().len()), (vec!["a".into(), "b".into(), "z".into()], 3));
    for invalid in ["{", "", r#"{"keys":[{"kty":"OKP","crv":"Ed25519"}]}"#] {
        std::fs::write(&file, invalid).unwrap();
        refresher.refresh_files().await;
        assert_eq!(kids(&refresher), ["a", "b", "z"], "{invalid:?}");
    }
    std::fs::remove_file(&file).unwrap();
    refresher.refresh_files().await;
    refresher.refresh().await;
    assert_eq!((kids(&refresher), refresher.metrics.counts()), (vec!["a".into(), "b".into(), "z".into()], (2, 4, 3)));
    std::fs::write(&file, set(&["c"])).unwrap();
    refresher.refresh_files().await;
    assert_eq!(kids(&refresher), ["c", "z"]);
}

#[tokio::test]
async fn failing_source_keeps_its_keys_while_others_are_refreshed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&["a"])).unwrap();
    let http = serve(vec![
        response("200 OK", &set(&["c"])),
        response("503 Service Unavailable", ""),
        response("200 OK", &set(&["d"])),
    ]);
    let refresher = load(&[&http, &file_url(&file)], true).await.unwrap();
    std::fs::write(&file, set(&["a", "b"])).unwrap();
    refresher.refresh().await;
    assert_eq!((kids(&refresher), refresher.metrics.counts()), (vec!["c".into(), "a".into(), "b".into()], (1, 1, 3)));
    refresher.refresh().await;
    assert_eq!(kids(&refresher), ["d", "a", "b"]);
}

#[tokio::test]
async fn changed_files_are_refreshed_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&["a"])).unwrap();
    let options = Options { check_files_every: Duration::from_millis(5), ..Options::default() };
    let refresher = Arc::new(SigningKeyRefresher::load(&[file_url(&file)], options, metrics()).await.unwrap());
    let running = tokio::spawn({
        let refresher = Arc::clone(&refresher);
        async move { refresher.run().await }
    });
    std::fs::write(&file, set(&["a", "b"])).unwrap();
    let until_refreshed = async {
        while kids(&refresher) != ["a", "b"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), until_refreshed).await.expect("the keys are refreshed");
    running.abort();
}
