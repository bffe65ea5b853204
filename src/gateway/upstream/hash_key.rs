//! What a consistent hash is made from.

use http::HeaderName;

use crate::config::{BalancingPolicy, HashBy, LoadBalancingConfig};
use crate::pipeline::Exchange;
use crate::wire::fields::Fields;

/// Which part of a request is hashed.
#[derive(Debug)]
pub(super) struct HashKey {
    /// `None` for policies that do not hash.
    by: Option<HashBy>,
    header: Option<HeaderName>,
}

impl HashKey {
    pub(super) fn new(config: &LoadBalancingConfig) -> Self {
        let header = config.header.as_ref().and_then(|name| HeaderName::try_from(name).ok());
        Self { by: (config.policy == BalancingPolicy::ConsistentHash).then_some(config.hash_by), header }
    }

    /// The bytes to hash; none for policies that do not hash.
    pub(super) fn of<U, F: Fields>(&self, exchange: &Exchange<U>, fields: &F) -> Vec<u8> {
        let Some(by) = self.by else { return Vec::new() };
        let verdict = exchange.verdict();
        let key = match by {
            HashBy::Key => verdict.map(|verdict| verdict.key_id().to_string().into_bytes()),
            HashBy::Actor => verdict.map(|verdict| verdict.actor_id().as_bytes().to_vec()),
            HashBy::Tenant => verdict.map(|verdict| verdict.tenant().to_string().into_bytes()),
            HashBy::Address => None,
            HashBy::Header => {
                self.header.as_ref().and_then(|name| fields.field_values(name).next()).map(<[u8]>::to_vec)
            }
        };
        let address = || exchange.client_ip().map(|address| address.to_string().into_bytes());
        key.filter(|key| !key.is_empty()).or_else(address).unwrap_or_default()
    }
}
