//! The routes and the upstreams of the gateway, with the health of their endpoints.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use crate::admin::console::failure::Failure;
use crate::admin::console::page::{Page, Section, html};
use crate::admin::console::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "console/routes.html")]
struct RoutesPage {
    page: Page,
    routes: Vec<Route>,
    upstreams: Vec<Upstream>,
    /// Whether the health of the endpoints is known.
    is_known: bool,
}

/// A route.
struct Route {
    name: String,
    /// Hosts and paths that it takes.
    matches: String,
    methods: String,
    upstream: String,
    /// What it needs: `required`, `optional` or `none`.
    auth: String,
    scopes: Vec<String>,
    settings: String,
}

/// An upstream.
struct Upstream {
    name: String,
    endpoints: Vec<Endpoint>,
    settings: String,
}

/// An endpoint with its state in words.
struct Endpoint {
    name: String,
    state: &'static str,
    class: &'static str,
}

#[derive(Deserialize)]
struct Config {
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    path: String,
    value: Value,
}

#[derive(Deserialize)]
struct Ready {
    #[serde(default)]
    upstreams: BTreeMap<String, BTreeMap<String, EndpointState>>,
}

#[derive(Deserialize)]
struct EndpointState {
    healthy: bool,
    ejected: bool,
}

/// Shows the page.
pub(super) async fn show(who: SignedIn) -> Result<Response, Failure> {
    let (config, ready) =
        tokio::join!(who.api.get::<Config>("/keygate/v1/config"), who.api.get::<Ready>("/health/ready"));
    let settings = config?.settings;
    let setting = |path: &str| settings.iter().find(|setting| setting.path == path).map(|setting| &setting.value);
    let routes = setting("gateway.routes").and_then(Value::as_array).into_iter().flatten().map(Route::new).collect();
    let is_known = ready.is_ok();
    let health = ready.map(|ready| ready.upstreams).unwrap_or_default();
    let upstreams = setting("gateway.upstreams").and_then(Value::as_object).into_iter().flatten();
    let upstreams = upstreams.map(|(name, value)| Upstream::new(name, value, health.get(name))).collect();
    Ok(html(&RoutesPage { page: who.page(Section::Routes, "Routes"), routes, upstreams, is_known }))
}

/// The texts of a list.
fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Route {
    fn new(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let (hosts, methods, path) = (texts(&value["hosts"]), texts(&value["methods"]), text("path_prefix"));
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let matches = match hosts.as_slice() {
            [] => path,
            hosts => hosts.iter().map(|host| format!("{host}{path}")).collect::<Vec<_>>().join(", "),
        };
        Self {
            name: text("name"),
            matches,
            methods: if methods.is_empty() { "every method".to_owned() } else { methods.join(", ") },
            upstream: text("upstream"),
            auth: text("auth"),
            scopes: texts(&value["scopes"]),
            settings: format!("{value:#}"),
        }
    }
}

impl Upstream {
    fn new(name: &str, value: &Value, health: Option<&BTreeMap<String, EndpointState>>) -> Self {
        let endpoints = health.into_iter().flatten().map(|(name, state)| {
            let (state, class) = match (state.healthy, state.ejected) {
                (true, false) => ("healthy", "good"),
                (true, true) => ("ejected", "warn"),
                (false, _) => ("unhealthy", "bad"),
            };
            Endpoint { name: name.clone(), state, class }
        });
        Self { name: name.to_owned(), endpoints: endpoints.collect(), settings: format!("{value:#}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn route_is_shown_with_what_it_takes_and_needs() {
        let route = Route::new(
            &json!({"name": "n", "path_prefix": "/a", "auth": "required", "hosts": ["x", "y"], "scopes": ["s"]}),
        );
        assert_eq!((route.matches.as_str(), route.auth.as_str()), ("x/a, y/a", "required"));
        assert_eq!((route.methods.as_str(), route.scopes.as_slice()), ("every method", &["s".to_owned()][..]));
    }

    #[test]
    fn endpoint_has_its_state_in_words() {
        let state = |healthy, ejected| EndpointState { healthy, ejected };
        let health = BTreeMap::from([("a".to_owned(), state(true, false)), ("b".to_owned(), state(false, true))]);
        let upstream = Upstream::new("u", &json!({}), Some(&health));
        let states: Vec<_> = upstream.endpoints.iter().map(|endpoint| endpoint.state).collect();
        assert_eq!(states, ["healthy", "unhealthy"]);
    }
}
