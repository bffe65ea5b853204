//! External authorization: the checks of each proxy and their answers, over HTTP and gRPC, and which peers are trusted.

mod check;
mod grpc;
mod http;
mod listeners;

use keygate_test_servers::free_port;
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, merge};

/// A Keygate with external authorization and without a proxy.
struct Fixture {
    keygate: Keygate,
    /// `ip:port` of external authorization.
    address: String,
}

/// Routes without upstreams.
fn routes() -> Value {
    json!({
        "enabled": false,
        "routes": [
            {"name": "orders", "path_prefix": "/orders", "scopes": ["read:orders"]},
            {"name": "write", "path_prefix": "/orders", "methods": ["POST"], "scopes": ["write:orders"]},
            {"name": "plain", "path_prefix": "/plain"},
            {"name": "open", "path_prefix": "/open", "auth": "none"},
            {"name": "maybe", "path_prefix": "/maybe", "auth": "optional"},
            {"name": "host", "hosts": ["admin.example.com"], "scopes": ["admin"]}
        ]
    })
}

impl Fixture {
    fn start() -> Self {
        Self::with(&json!({}))
    }

    /// Starts with more settings of the whole configuration.
    fn with(settings: &Value) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut all = json!({"external_auth": {"address": address}});
        merge(&mut all, settings);
        Self { keygate: Keygate::serve(&routes(), &all), address }
    }
}
