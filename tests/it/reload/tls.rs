//! Settings of TLS that change: other files, other requirements.

use keygate_test_servers::free_port;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{change, gateway, logged, reload};
use crate::support::authority::Authority;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;

/// Whether a client that trusts one authority alone gets a response.
async fn is_served(authority: &Authority, port: u16, path: &str) -> bool {
    let root = Certificate::from_pem(&std::fs::read(&authority.file).unwrap()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    client.get(format!("https://localhost:{port}{path}")).send().await.is_ok_and(|response| response.status() == 200)
}

#[tokio::test]
async fn other_files_are_used_for_new_connections_of_every_listener() {
    let (folder, one) = (TempDir::new().unwrap(), Upstream::start());
    let authorities = ["first", "second"].map(|name| Authority::named(folder.path(), name));
    let tls = |index: usize| {
        let (certificate, key) =
            authorities[index].server(&["localhost"]).write(folder.path(), &format!("server{index}"));
        json!({"certificates": [{"certificate": certificate, "key": key}]})
    };
    let [port, admin] = [free_port(), free_port()];
    let listeners = |tls: &Value| json!([{"address": format!("127.0.0.1:{port}"), "tls": tls}]);
    let mut settings = gateway(&one);
    settings["listeners"] = listeners(&tls(0));
    let keygate = Keygate::serve(&settings, &json!({"serve": {"http": {"port": admin, "tls": tls(0)}}}));
    let served = async |index: usize| {
        [is_served(&authorities[index], port, "/a").await, is_served(&authorities[index], admin, "/health/alive").await]
    };
    assert_eq!((served(0).await, served(1).await), ([true; 2], [false; 2]));
    let other = json!({"gateway": {"listeners": listeners(&tls(1))}, "serve": {"http": {"tls": tls(1)}}});
    reload(&keygate, &other).await;
    assert_eq!((served(0).await, served(1).await), ([false; 2], [true; 2]));
    assert_eq!(keygate.count("keygate_config_restart_settings").await, Some(0));
    let expiry = async |index: usize| {
        let file = folder.path().join(format!("server{index}.crt"));
        let name = format!("keygate_tls_certificate_expiry_timestamp_seconds{{file=\"{}\"}}", file.display());
        keygate.count(&name).await.is_some()
    };
    assert_eq!((expiry(0).await, expiry(1).await), (false, true));
    // The files of the new settings are watched.
    tls(1);
    logged(&keygate, "the certificate was reloaded", 1).await;
    // A client certificate is required from now on.
    let mut demanding = tls(1);
    demanding["client_certificates"] = json!({"ca": authorities[0].file});
    reload(&keygate, &json!({"gateway": {"listeners": listeners(&demanding)}})).await;
    assert_eq!(served(1).await, [false, true]);
    // A file that is not usable changes nothing.
    let mut unusable = tls(0);
    unusable["certificates"][0]["key"] = json!("/nonexistent");
    change(&keygate, &json!({"gateway": {"listeners": listeners(&unusable)}, "serve": {"http": {"tls": tls(0)}}}));
    logged(&keygate, "the last good one stays in effect", 1).await;
    assert_eq!((served(0).await, served(1).await), ([false; 2], [false, true]));
}

#[tokio::test]
async fn listener_in_clear_text_stays_one_until_a_restart() {
    let (folder, one) = (TempDir::new().unwrap(), Upstream::start());
    let authority = Authority::new(folder.path());
    let (certificate, key) = authority.server(&["localhost"]).write(folder.path(), "server");
    let address = format!("127.0.0.1:{}", free_port());
    let mut settings = gateway(&one);
    settings["listeners"] = json!([{"address": address}]);
    let keygate = Keygate::serve(&settings, &json!({}));
    let tls = json!({"certificates": [{"certificate": certificate, "key": key}]});
    reload(&keygate, &json!({"gateway": {"listeners": [{"address": address, "tls": tls}]}})).await;
    assert_ne!(keygate.count("keygate_config_restart_settings").await, Some(0));
    assert_eq!(keygate.http.get(format!("http://{address}/a")).send().await.unwrap().status(), 200);
}
