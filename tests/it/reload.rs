//! Reload of the configuration while requests are served: at a change of the files and at SIGHUP.

mod cache;
mod files;
mod settings;
mod tls;
mod under_load;

use serde_json::{Value, json};

use crate::support::keygate::{Keygate, merge, write_private};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// One open route, `/a`.
fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [{"name": "a", "path_prefix": "/a", "upstream": "one", "auth": "none"}],
        "upstreams": {"one": {"endpoints": [upstream.url]}}
    })
}

/// The configuration file as it is.
pub(crate) fn configuration(keygate: &Keygate) -> Value {
    serde_json::from_str(&std::fs::read_to_string(keygate.path().join("keygate.json")).unwrap()).unwrap()
}

/// Merges settings into the configuration file, which is replaced in one step.
pub(crate) fn change(keygate: &Keygate, settings: &Value) {
    let mut config = configuration(keygate);
    merge(&mut config, settings);
    replace(keygate, &config.to_string());
}

pub(crate) fn replace(keygate: &Keygate, text: &str) {
    let new = keygate.path().join("new.json");
    write_private(&new, text);
    std::fs::rename(&new, keygate.path().join("keygate.json")).unwrap();
}

/// Merges settings into the configuration file, and waits until they are in effect.
pub(crate) async fn reload(keygate: &Keygate, settings: &Value) {
    let before = hash(keygate).await;
    change(keygate, settings);
    wait_for(async || match hash(keygate).await {
        hash if hash == before => Err(format!("no reload: {}", keygate.log())),
        _ => Ok(()),
    })
    .await;
}

async fn hash(keygate: &Keygate) -> u64 {
    // Metrics are served before the configuration is watched.
    wait_for(async || keygate.count("keygate_config_hash").await.ok_or("no hash".to_owned())).await
}

/// Waits until the log contains a text a number of times.
pub(crate) async fn logged(keygate: &Keygate, text: &str, times: usize) {
    wait_for(async || match keygate.log().matches(text).count() {
        count if count >= times => Ok(()),
        count => Err(format!("{count} times {text:?} in {}", keygate.log())),
    })
    .await;
}
