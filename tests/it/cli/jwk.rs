//! `keygate jwk`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{cli, failure, issue, json, run, text};
use crate::support::keygate::{Keygate, command};

fn generate(arguments: &[&str]) -> (Value, String) {
    let finished = run(command().args(["jwk", "generate"]).args(arguments));
    assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
    (serde_json::from_str(&finished.stdout).unwrap(), finished.stderr)
}

fn server(keys: &Path, kid: &str) -> Keygate {
    let jwt = json!({"signing_key_id": kid, "signing_keys": {"urls": [format!("file://{}", keys.display())]}});
    let gateway = json!({
        "routes": [{"name": "all", "path_prefix": "/", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": ["http://127.0.0.1:9"]}}
    });
    Keygate::serve(&gateway, &json!({"credentials": {"derived_tokens": {"jwt": jwt}}}))
}

#[test]
fn server_signs_tokens_with_a_generated_key() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, arguments, algorithm) in [
        ("eddsa", &["--jwks"][..], "EdDSA"),
        ("eddsa", &["--kid", "a kid with spaces"], "EdDSA"),
        ("rsa", &["--jwks", "--bits", "3072"], "RS256"),
        ("rsa", &["--alg", "PS512"], "RS256"),
    ] {
        let file = folder.path().join(format!("{kind}-{}.json", arguments.len()));
        let mut generate = command();
        let finished = run(generate.args(["jwk", "generate", kind, "-o"]).arg(&file).args(arguments));
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), ""), "the private key is only in the file");
        let kid = finished.stderr.lines().next().unwrap().strip_prefix("kid: ").unwrap();
        let keygate = server(&file, kid);
        let (id, secret) = issue(&keygate, "n");
        let token = json(&keygate, &["keys", "derive", &secret, "--algorithm", "jwt"]);
        let token = text(&token["token"]["token"]);
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["kid"], &header["alg"]), (&json!(kid), &json!(algorithm)));
        assert_eq!(json(&keygate, &["keys", "verify", &token])["key_id"], id.as_str());

        let shown = run(&mut cli(&keygate, &["jwk", "get"]));
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
        let keys: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(keys["keys"][0]["kid"], kid);
        assert_eq!(shown.stdout, format!("{keys:#}\n"));
        assert!(keys["keys"][0].get("d").is_none() && keys.as_object().unwrap().len() == 1, "{keys}");
    }
}

#[test]
fn output_file_has_mode_0600_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let generate = || {
        let mut command = command();
        command.args(["jwk", "generate", "ecdsa", "--curve", "P-384", "--output"]).arg(&file);
        command
    };
    assert_eq!(run(&mut generate()).code, Some(0));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read_to_string(&file).unwrap();
    let key: Value = serde_json::from_str(&before).unwrap();
    assert_eq!((&key["crv"], &key["alg"], &key["use"]), (&json!("P-384"), &json!("ES384"), &json!("sig")));
    let error = failure(&mut generate());
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn jwk_members_follow_the_flags() {
    for (arguments, kind, algorithm) in [
        (&["eddsa"][..], "OKP", "EdDSA"),
        (&["ecdsa"], "EC", "ES256"),
        (&["ecdsa", "--curve", "P-521"], "EC", "ES512"),
        (&["rsa"], "RSA", "RS256"),
        (&["rsa", "--alg", "PS384"], "RSA", "PS384"),
        (&["hmac"], "oct", "HS512"),
        (&["hmac", "--bits", "384"], "oct", "HS384"),
        (&["hmac", "--bits", "256"], "oct", "HS256"),
    ] {
        let (key, stderr) = generate(arguments);
        let kid = text(&key["kid"]);
        assert_eq!((&key["kty"], &key["alg"]), (&json!(kind), &json!(algorithm)), "{arguments:?}");
        assert_eq!(stderr, format!("kid: {kid}\ntype: {kind}\nalg: {algorithm}\n"));
        assert_eq!(URL_SAFE_NO_PAD.decode(&kid).unwrap().len(), 32, "a thumbprint");
    }
    let (set, _) = generate(&["eddsa", "--jwks", "--public-only", "--kid", "k", "--use", "enc"]);
    let key = &set["keys"][0];
    assert_eq!((&key["kid"], &key["use"], key.get("d")), (&json!("k"), &json!("enc"), None));
    for arguments in [&["rsa", "--bits", "1024"][..], &["rsa", "--bits", "2049"], &["hmac", "--bits", "128"]] {
        let error = failure(command().args(["jwk", "generate"]).args(arguments));
        assert!(error.contains("--bits"), "{error}");
    }
}
