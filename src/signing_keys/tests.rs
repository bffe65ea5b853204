use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;

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

fn kids(set: &SigningKeyRefresher) -> Vec<String> {
    let text = |key: Value| key["kid"].as_str().unwrap().to_owned();
    set.keys().load().public_jwks().into_iter().map(text).collect()
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

/// A server of one answer after the other; the last one stays.
fn serve(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let next = AtomicUsize::new(0);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let index = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            // A client that has seen enough hangs up.
            let _ = stream.write_all(&answers[index]);
        }
    });
    format!("http://localhost:{port}/keys?password=secret")
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn keys_of_all_sources_stand_in_the_order_of_the_sources() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&["b", "a"])).unwrap();
    let http = serve(vec![answer("200 OK", &set(&["c"]))]);
    let standard = format!("base64://{}", STANDARD.encode(jwk("a").to_string()));
    let url_safe = format!("base64://{}", URL_SAFE_NO_PAD.encode(set(&["d", "ÿ?>"])));
    let loaded = load(&[&standard, &file_url(&file), &http, &url_safe], true).await.unwrap();
    assert_eq!(kids(&loaded), ["a", "b", "c", "d", "ÿ?>"]);
    assert_eq!(loaded.metrics.counts(), (1, 0, 5));
    assert!(load(&[], false).await.unwrap().keys().load().is_empty());
}

#[tokio::test]
async fn a_source_that_cannot_be_used_is_named_by_its_place_and_never_by_its_url() {
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
async fn fetched_keys_are_bounded_and_never_redirected() {
    let long = answer("200 OK", &" ".repeat(BODY_MAX + 1));
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; BODY_MAX + 1]].concat();
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec();
    for (answer, expected) in [
        (long, Failure::TooLarge),
        (endless, Failure::TooLarge),
        (redirect, Failure::Status(302)),
        (answer("404 Not Found", &set(&["a"])), Failure::Status(404)),
        (answer("200 OK", "secret"), Failure::Jwk(JwkError::NotASet)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(), Failure::Unreachable),
        (b"secret\r\n\r\n".to_vec(), Failure::Unreachable),
    ] {
        assert_eq!(failure(&serve(vec![answer]), true).await, expected);
    }
    assert_eq!(failure("http://127.0.0.1:1/secret", true).await, Failure::Unreachable);
}

#[tokio::test]
async fn a_file_too_long_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, " ".repeat(BODY_MAX + 1)).unwrap();
    assert_eq!(failure(&file_url(&file), false).await, Failure::TooLarge);
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("keys.json"), folder.path().join("other.json"));
    std::fs::write(&file, set(&["a"])).unwrap();
    std::fs::write(&other, set(&["z"])).unwrap();
    let loaded = load(&[&file_url(&file), &file_url(&other)], false).await.unwrap();
    let shared = loaded.keys();
    loaded.refresh_files().await;
    assert_eq!(loaded.metrics.counts(), (1, 0, 2), "what has not changed is not read");
    std::fs::write(&file, set(&["a", "b"])).unwrap();
    loaded.refresh_files().await;
    assert_eq!((kids(&loaded), shared.load().len()), (vec!["a".into(), "b".into(), "z".into()], 3));
    for broken in ["{", "", r#"{"keys":[{"kty":"OKP","crv":"Ed25519"}]}"#] {
        std::fs::write(&file, broken).unwrap();
        loaded.refresh_files().await;
        assert_eq!(kids(&loaded), ["a", "b", "z"], "{broken:?}");
    }
    std::fs::remove_file(&file).unwrap();
    loaded.refresh_files().await;
    loaded.refresh().await;
    assert_eq!((kids(&loaded), loaded.metrics.counts()), (vec!["a".into(), "b".into(), "z".into()], (2, 4, 3)));
    std::fs::write(&file, set(&["c"])).unwrap();
    loaded.refresh_files().await;
    assert_eq!(kids(&loaded), ["c", "z"]);
}

#[tokio::test]
async fn a_source_that_fails_later_keeps_its_keys_while_others_move_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&["a"])).unwrap();
    let http = serve(vec![
        answer("200 OK", &set(&["c"])),
        answer("503 Service Unavailable", ""),
        answer("200 OK", &set(&["d"])),
    ]);
    let loaded = load(&[&http, &file_url(&file)], true).await.unwrap();
    std::fs::write(&file, set(&["a", "b"])).unwrap();
    loaded.refresh().await;
    assert_eq!((kids(&loaded), loaded.metrics.counts()), (vec!["c".into(), "a".into(), "b".into()], (1, 1, 3)));
    loaded.refresh().await;
    assert_eq!(kids(&loaded), ["d", "a", "b"]);
}

#[tokio::test]
async fn followed_files_change_the_keys_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&["a"])).unwrap();
    let options = Options { look_at_files_every: Duration::from_millis(5), ..Options::default() };
    let loaded = Arc::new(SigningKeyRefresher::load(&[file_url(&file)], options, metrics()).await.unwrap());
    let following = tokio::spawn({
        let loaded = Arc::clone(&loaded);
        async move { loaded.follow().await }
    });
    std::fs::write(&file, set(&["a", "b"])).unwrap();
    let seen = async {
        while kids(&loaded) != ["a", "b"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.expect("the change is seen");
    following.abort();
}
