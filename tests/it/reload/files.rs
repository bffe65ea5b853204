//! When the configuration is reloaded, and from which files.

use std::os::unix::fs::symlink;

use keygate_test_servers::Process;
use serde_json::json;

use super::{change, configuration, gateway, hash, logged, reload, replace};
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::{Keygate, command, write_private};
use crate::support::upstream::Upstream;
use crate::support::wait::{wait_for, wait_for_count};

async fn success(keygate: &Keygate, expected: u64) {
    wait_for_count(keygate, "keygate_config_reload_success", expected).await;
}

#[tokio::test]
async fn bad_file_changes_nothing_and_all_errors_are_logged() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    let mut connection = KeptConnection::open(&keygate.gateway);
    let (good, before) = (configuration(&keygate), hash(&keygate).await);
    let bad = json!({"gateway": {"allow_underscores": true, "routes": [{"name": "a", "upstream": "none"}]}, "quota": {"api_keys_max": -1}});
    change(&keygate, &bad);
    success(&keygate, 0).await;
    logged(&keygate, "the last good one stays in effect", 1).await;
    let log = keygate.log();
    for path in ["gateway.routes.0.upstream", "quota.api_keys_max"] {
        assert!(log.contains(path), "{path}: {log}");
    }
    assert_eq!(connection.get("/a", "").status, 200);
    replace(&keygate, "{ not closed");
    logged(&keygate, "is not valid YAML", 1).await;
    assert_eq!((connection.get("/a", "").status, hash(&keygate).await), (200, before));
    replace(&keygate, &good.to_string());
    success(&keygate, 1).await;
    assert_eq!(hash(&keygate).await, before);
}

#[tokio::test]
async fn unusable_tls_file_of_an_upstream_changes_nothing() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    change(
        &keygate,
        &json!({"gateway": {"upstreams": {"two": {"endpoints": ["https://127.0.0.1:1"], "tls": {"ca_file": "/nonexistent"}}}}}),
    );
    success(&keygate, 0).await;
    logged(&keygate, "/nonexistent", 1).await;
    assert_eq!(KeptConnection::open(&keygate.gateway).get("/a", "").status, 200);
}

#[tokio::test]
async fn hangup_reloads_a_file_that_did_not_change() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    for times in 1..=2 {
        keygate.process.signal("HUP");
        logged(&keygate, "the configuration was reloaded; 0 settings have changed", times).await;
    }
    assert_eq!(KeptConnection::open(&keygate.gateway).get("/a", "").status, 200);
}

#[tokio::test]
async fn symbolic_link_of_a_config_map_is_followed() {
    let one = Upstream::start();
    let first = Keygate::serve(&gateway(&one), &json!({}));
    let mut config = configuration(&first);
    drop(first);
    // As kubelet does it: the file is a link into `..data`, which is a link to a folder of the version.
    let folder = tempfile::tempdir().unwrap();
    config["db"]["dsn"] = format!("sqlite://{}", folder.path().join("keys.db").display()).into();
    let version = |name: &str, config: &serde_json::Value| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        write_private(&folder.path().join(name).join("keygate.json"), &config.to_string());
        symlink(name, folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    version("..1", &config);
    let file = folder.path().join("keygate.json");
    symlink("..data/keygate.json", &file).unwrap();
    let log = folder.path().join("log");
    let mut command = command();
    let _process =
        Process::start(command.arg("serve").arg("--config").arg(&file).stderr(std::fs::File::create(&log).unwrap()));
    let logged = async |text: &str| {
        wait_for(async || {
            let log = std::fs::read_to_string(&log).unwrap();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    };
    logged("is serving").await;
    config["gateway"]["allow_underscores"] = json!(true);
    version("..2", &config);
    logged("gateway.allow_underscores").await;
}

#[tokio::test]
async fn secret_is_read_again_when_its_file_changes() {
    let one = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let (current, old) = (folder.path().join("current"), folder.path().join("old"));
    write_private(&current, "the-first-secret-of-32-characters-or-more\n");
    let mut settings = gateway(&one);
    settings["routes"][0]["auth"] = json!("required");
    let hmac = json!({"current": null, "current_file": current});
    let keygate = Keygate::serve(&settings, &json!({"secrets": {"hmac": hmac}}));
    let (_, key) = keygate.issue(json!({})).await;
    assert_eq!(keygate.call("/a", &key).await.status(), 200);
    write_private(&old, "the-first-secret-of-32-characters-or-more\n");
    reload(&keygate, &json!({"secrets": {"hmac": {"retired_files": [old]}}})).await;
    let before = hash(&keygate).await;
    write_private(&current, "the-second-secret-of-32-characters-or-more\n");
    wait_for(async || if hash(&keygate).await == before { Err("not read".to_owned()) } else { Ok(()) }).await;
    assert_eq!(keygate.call("/a", &key).await.status(), 200);
    reload(&keygate, &json!({"secrets": {"hmac": {"retired_files": []}}})).await;
    assert_eq!(keygate.call("/a", &key).await.status(), 401);
    assert!(!keygate.log().contains("the-second-secret"), "{}", keygate.log());
}
