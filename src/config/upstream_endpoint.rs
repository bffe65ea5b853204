//! `gateway.upstreams.*.endpoints`: an entry is a URL, or a table with a URL and a weight.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::endpoint::{EndpointUrl, parse_endpoint};
use super::problems::Problems;

/// The largest weight of an endpoint.
const MAX_WEIGHT: u32 = 100;

/// An endpoint of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointConfig {
    /// `http://host:port`, `https://host:port` or `unix:/path`. A host name stands for all of its addresses.
    pub url: String,
    /// The share of requests in relation to the other endpoints, 1 to 100. Each address of a name has this weight.
    pub weight: u32,
}

/// The form with a weight.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointTable {
    /// `http://host:port`, `https://host:port` or `unix:/path`. A host name stands for all of its addresses.
    url: String,
    /// The share of requests in relation to the other endpoints. Each address of a name has this weight.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    weight: u32,
}

struct EndpointVisitor;

fn one() -> u32 {
    1
}

impl From<String> for EndpointConfig {
    /// An endpoint with weight 1.
    fn from(url: String) -> Self {
        Self { url, weight: one() }
    }
}

impl EndpointConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if parse_endpoint(&self.url).is_none() {
            problems.add(path, "must be http://host:port, https://host:port, without a path, or unix:/path/of/socket");
        }
        if !(1..=MAX_WEIGHT).contains(&self.weight) {
            problems.add(&format!("{path}.weight"), "must be 1 to 100");
        }
    }

    /// The parsed URL; `None` if it is not valid.
    pub fn parsed(&self) -> Option<EndpointUrl> {
        parse_endpoint(&self.url)
    }
}

impl<'de> Deserialize<'de> for EndpointConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EndpointVisitor)
    }
}

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = EndpointConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a table with url and weight")
    }

    fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<EndpointConfig, E> {
        Ok(url.to_owned().into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointConfig, A::Error> {
        let EndpointTable { url, weight } = EndpointTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(EndpointConfig { url, weight })
    }
}

impl JsonSchema for EndpointConfig {
    fn schema_name() -> Cow<'static, str> {
        "EndpointConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<EndpointTable>();
        json_schema!({ "description": "An endpoint: a URL, or a table with a weight.", "anyOf": [{ "type": "string" }, table] })
    }
}
