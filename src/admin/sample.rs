//! A sample upstream: echoes the request, to show what an upstream behind Keygate receives.

use std::collections::BTreeMap;

use axum::Json;
use axum::Router;
use http::request::Parts;
use serde_json::{Value, json};

/// The routes of the sample upstream.
pub fn sample_router() -> Router {
    Router::new().fallback(echo)
}

async fn echo(head: Parts) -> Json<Value> {
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let headers: BTreeMap<_, _> = headers.into_iter().map(|(name, values)| (name, values.join(", "))).collect();
    Json(json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
    }))
}
