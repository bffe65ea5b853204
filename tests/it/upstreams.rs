//! Upstreams with several endpoints, some of which fail.

mod balancing;
mod documentation;
mod failing;
mod health;
mod http2;
pub(crate) mod instance;
mod limits;
mod load;
mod names;
mod nginx;
mod restarts;
mod retries;

use serde_json::{Value, json};

use crate::support::keygate::{Keygate, merge};

/// Starts Keygate with an upstream for all requests, which need no credential.
fn start(upstream: &Value) -> Keygate {
    let gateway = json!({
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": upstream}
    });
    Keygate::serve(&gateway, &json!({}))
}

/// The same with endpoints and more settings.
fn start_with(endpoints: &[String], settings: &Value) -> Keygate {
    let mut upstream = json!({"endpoints": endpoints});
    merge(&mut upstream, settings);
    start(&upstream)
}

/// The value of a metric of an endpoint, 0 if there is none.
async fn endpoint_metric(keygate: &Keygate, name: &str, url: &str, more: &str) -> u64 {
    let endpoint = url.trim_start_matches("http://");
    let labels = format!(r#"{name}{{endpoint="{endpoint}",{more}upstream="api"}}"#);
    keygate.count(&labels).await.unwrap_or(0)
}
