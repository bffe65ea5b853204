//! The Keygate process that serves all rows, and its upstream.

use std::sync::Arc;

use keygate_test_servers::{Postgres, free_port};
use serde_json::{Value, json};

use super::credentials::AUDIENCE;
use crate::support::admin::SIGNING_KEYS;
use crate::support::keygate::{Keygate, merge};
use crate::support::listeners::Listeners;
use crate::support::upstream::Upstream;

/// The `gateway` section: the routes of all rows, and their limits.
pub(crate) fn gateway(upstream: &str) -> Value {
    // No bucket is replenished while a test runs.
    let limit = |quota: u64, count_by: &str| json!({"quota": quota, "window": "3600s", "count_by": count_by});
    json!({
        "routes": [
            {"name": "required", "path_prefix": "/required", "upstream": "api"},
            {"name": "orders", "path_prefix": "/orders", "upstream": "api", "scopes": ["read:orders"]},
            {"name": "write", "path_prefix": "/orders", "methods": ["POST"], "upstream": "api", "scopes": ["write:orders"]},
            {"name": "optional", "path_prefix": "/optional", "upstream": "api", "auth": "optional"},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"},
            {"name": "bound", "path_prefix": "/bound", "upstream": "api", "audiences": [AUDIENCE]},
            {"name": "limited", "path_prefix": "/limited", "upstream": "api", "limits": ["hourly"]},
            {"name": "costly", "path_prefix": "/costly", "upstream": "api", "limits": ["small"], "cost": 3},
            {"name": "by-address", "path_prefix": "/by-address", "upstream": "api", "auth": "optional", "limits": ["by-address"]},
            {"name": "generous", "path_prefix": "/generous", "upstream": "api", "auth": "optional", "limits": ["generous"]},
            {"name": "hosted", "path_prefix": "/hosted", "hosts": ["api.example.com"], "upstream": "api"},
            {"name": "read-only", "path_prefix": "/read-only", "methods": ["GET"], "upstream": "api"}
        ],
        "upstreams": {"api": {"endpoints": [upstream]}},
        "limits": {
            "hourly": limit(1, "key"),
            "small": limit(2, "key"),
            "generous": limit(1000, "key"),
            "by-address": limit(1, "address")
        }
    })
}

/// A Keygate with all fronts that one process has, in front of one upstream.
pub(crate) struct Fixture {
    pub(crate) keygate: Keygate,
    /// The listeners of the gateway.
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) upstream: Arc<Upstream>,
    /// The port of the listener for other servers.
    pub(crate) external_auth: u16,
    /// `None` for keys in SQLite.
    _postgres: Option<Postgres>,
}

impl Fixture {
    /// Starts both, with keys in SQLite.
    pub(crate) fn start() -> Self {
        Self::with_settings(&json!({}), None)
    }

    /// Starts both, with keys in a database that other programs can share.
    pub(crate) fn shared() -> Self {
        let postgres = Postgres::start();
        let dsn = format!("{}?acquire_timeout=10s", postgres.url("postgres"));
        Self::with_settings(&json!({"db": {"dsn": dsn, "auto_migrate": true}}), Some(postgres))
    }

    fn with_settings(database: &Value, postgres: Option<Postgres>) -> Self {
        use base64::Engine;
        let upstream = Arc::new(Upstream::start());
        let external_auth = free_port();
        let keys = base64::engine::general_purpose::STANDARD.encode(SIGNING_KEYS);
        let mut settings = json!({
            "external_auth": {"address": format!("127.0.0.1:{external_auth}")},
            // The client of the admin API states its address when it derives a token.
            "serve": {"http": {"client_ip_source": "CLIENT_IP_SOURCE_X_REAL_IP"}},
            "credentials": {"derived_tokens": {"jwt": {"signing_keys": {"urls": [format!("base64://{keys}")]}}}}
        });
        merge(&mut settings, database);
        let listeners = Arc::new(Listeners::new());
        let mut gateway = gateway(&upstream.url);
        gateway["listeners"] = listeners.config(&json!({}));
        let keygate = Keygate::serve(&gateway, &settings);
        Self { keygate, listeners, upstream, external_auth, _postgres: postgres }
    }
}
