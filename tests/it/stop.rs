//! The stop: readiness, connections that are open, protocols, requests under load.

mod connections;
mod http2_load;
mod load;
mod readiness;
mod soak;
mod upgrade;

use std::net::TcpStream;

use keygate_test_servers::eventually;
use serde_json::{Value, json};

use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;

/// A `gateway` section that forwards everything without a credential. Nothing ends by its own time.
fn gateway(upstream: &Upstream) -> Value {
    json!({
        "shutdown_grace": "60s",
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    })
}

/// Settings with which a silent connection stays open after the stop for as long as a test may take.
fn patient() -> Value {
    json!({"serve": {"shutdown_idle_timeout": "60s"}})
}

/// Sends the stop signal, and waits until no listener of the gateway accepts connections.
fn stop(keygate: &Keygate) {
    keygate.process.signal("TERM");
    refuses_connections(keygate);
}

fn refuses_connections(keygate: &Keygate) {
    let address = keygate.gateway.trim_start_matches("http://");
    eventually("the gateway accepts no more connections", || TcpStream::connect(address).is_err());
}

/// Sends requests on a connection until a response carries `Connection: close`.
fn use_up(connection: &mut KeptConnection, path: &str) {
    eventually("a response is the last one of its connection", || {
        let answer = connection.get(path, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.is_last()
    });
    connection.ends();
}
