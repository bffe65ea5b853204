//! Client certificates that stand for an admin key.

use serde_json::json;
use tempfile::TempDir;

use super::{BOOTSTRAP, serve};
use crate::support::authority::{Authority, Pair};

const URI: &str = "spiffe://example/deploy";

fn client(authority: &Authority, pair: &Pair) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(&std::fs::read(&authority.file).unwrap()).unwrap();
    let identity = reqwest::Identity::from_pem(format!("{}{}", pair.certificate, pair.key).as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([root]).identity(identity).build().unwrap()
}

#[tokio::test]
async fn certificate_with_a_configured_name_has_the_roles_of_its_key() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let (certificate, key) = authority.server(&["localhost"]).write(folder.path(), "server");
    // The id of a key is not known before it exists, so the server is started twice.
    let mut keygate = serve(&json!({}));
    let (id, _) = keygate.admin_key(json!({"roles": ["read"]})).await;
    let file = keygate.path().join("keygate.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    config["serve"]["http"]["tls"] = json!({
        "certificates": [{"certificate": certificate, "key": key}],
        "client_certificates": {"ca": authority.file, "mode": "optional"}
    });
    config["serve"]["http"]["auth"]["certificates"] = json!([{"san": format!("URI:{URI}"), "key_id": id}]);
    std::fs::write(&file, config.to_string()).unwrap();
    keygate.restart();
    let base = keygate.admin.replace("http://127.0.0.1", "https://localhost");
    let (known, other) = (authority.client("deploy", URI), authority.client("other", "spiffe://example/other"));
    let (known, other) = (client(&authority, &known), client(&authority, &other));
    let list = format!("{base}/v2alpha1/admin/issuedApiKeys");
    assert_eq!(known.get(&list).send().await.unwrap().status(), 200);
    assert_eq!(known.post(&list).json(&json!({"name": "n", "actor_id": "a"})).send().await.unwrap().status(), 403);
    assert_eq!(other.get(&list).send().await.unwrap().status(), 401);
    assert_eq!(known.get(&list).bearer_auth("invalid").send().await.unwrap().status(), 401, "a key takes precedence");
    let revoke = other.post(format!("{base}/keygate/v1/adminKeys/{id}:revoke")).bearer_auth(BOOTSTRAP);
    assert_eq!(revoke.send().await.unwrap().status(), 204);
    assert_eq!(known.get(&list).send().await.unwrap().status(), 401);
}
