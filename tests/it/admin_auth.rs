//! Authentication of the admin API: admin keys, roles, actors, the bootstrap key, listeners.

mod actors;
mod audit;
mod certificates;
mod command_line;
mod keys;
mod listeners;
mod roles;
mod separation;
mod throttle;

use serde_json::{Value, json};

use crate::support::admin::AdminResponse;
use crate::support::keygate::{Keygate, merge};

/// The bootstrap key of the servers.
const BOOTSTRAP: &str = "a-bootstrap-key-for-tests-0123456789abcdef";
/// No key has this id.
const UNKNOWN: &str = "11111111-2222-4333-8444-555555555555";
const ADMIN_KEYS: &str = "POST /keygate/v1/adminKeys";

/// A server that authenticates callers; its calls carry the bootstrap key.
pub(crate) fn serve(settings: &Value) -> Keygate {
    let mut config = json!({"serve": {"http": {"auth": {"bootstrap_key": BOOTSTRAP}}}});
    merge(&mut config, settings);
    let mut keygate = Keygate::serve_admin(&config);
    keygate.admin_key = BOOTSTRAP.into();
    keygate
}

impl Keygate {
    /// Creates an admin key with these fields; returns its id and its secret.
    pub(crate) async fn admin_key(&self, fields: Value) -> (String, String) {
        let created = self.create_admin_key(&self.admin_key, fields).await;
        assert_eq!(created.status, 201, "{created:?}");
        (created.text("/admin_key/key_id"), created.text("/secret"))
    }

    /// Tries to create an admin key on behalf of another one.
    async fn create_admin_key(&self, key: &str, fields: Value) -> AdminResponse {
        let mut body = json!({"name": "test"});
        merge(&mut body, &fields);
        self.send_as(key, ADMIN_KEYS, body.to_string()).await
    }
}
