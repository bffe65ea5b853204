//! The Tower layer around an axum service whose routes require what the gateway's do, and that forwards to the recording upstream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, on};
use http::StatusCode;
use http_body_util::BodyExt;
use keygate::config::{Auth, Config, RouteConfig};
use keygate::engine::{Engine, RunningEngine};
use keygate::layer::{AuthLayer, Principal};
use tower::ServiceExt;

use super::fixture::Fixture;
use super::front::{Description, Exception, Listener};

pub(crate) const LAYER: Description = Description {
    name: "Tower layer",
    keeps_bodies: true,
    keeps_request_id: true,
    keeps_authorization: true,
    matches_routes: false,
    exceptions: &[
        Exception {
            note: "dot segments",
            status: 200,
            reason: "axum does not resolve dot segments; `/open` handles it",
        },
        Exception {
            note: "encoded dots",
            status: 200,
            reason: "axum does not resolve dot segments; `/open` handles it",
        },
        Exception {
            note: "path parameters",
            status: 200,
            reason: "axum does not know path parameters; `/open` handles it",
        },
        Exception { note: "repeated slash", status: 404, reason: "axum does not merge slashes" },
        Exception { note: "encoded letter", status: 404, reason: "axum matches the path as it was sent" },
    ],
};

/// Where the service forwards to.
#[derive(Clone)]
struct Forward {
    client: reqwest::Client,
    upstream: Arc<str>,
}

/// Starts the service, with an engine on the database of the fixture.
pub(crate) async fn start(fixture: &Fixture) -> Listener {
    let config = Config::load(&fixture.keygate.path().join("keygate.json"), &BTreeMap::new()).unwrap();
    let engine = Engine::builder(config).start().await.unwrap();
    let forward = Forward { client: reqwest::Client::new(), upstream: fixture.upstream.url.as_str().into() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = by_host(&engine, &forward).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Listener::service(&LAYER, address, fixture)
}

/// The routes for requests to every host, and the others for requests that name their host.
fn by_host(engine: &RunningEngine, forward: &Forward) -> Router {
    let named = router(engine, forward, |_| true);
    let others = router(engine, forward, |route| route.hosts.is_empty());
    let hosts: Vec<String> = routes(engine).iter().flat_map(|route| route.hosts.clone()).collect();
    Router::new().fallback(async move |request: Request| {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let router = if hosts.iter().any(|named| named == host) { named } else { others };
        router.oneshot(request).await
    })
}

fn routes(engine: &RunningEngine) -> &[RouteConfig] {
    engine.config().gateway.as_ref().map(|gateway| &gateway.routes[..]).unwrap_or_default()
}

/// A router with one layer for each route.
fn router(engine: &RunningEngine, forward: &Forward, has: impl Fn(&RouteConfig) -> bool) -> Router {
    let mut paths: BTreeMap<&str, MethodRouter<Forward>> = BTreeMap::new();
    for route in routes(engine).iter().filter(|route| has(route)) {
        let handler = match route.methods.first() {
            Some(method) => on(MethodFilter::try_from(method.parse::<http::Method>().unwrap()).unwrap(), send),
            None => any(send),
        };
        let handler = handler.layer(layer(engine, route));
        let path = paths.entry(&route.path_prefix).or_default();
        *path = std::mem::take(path).merge(handler);
    }
    let mut router = Router::new();
    for (prefix, methods) in paths {
        router = router.route(prefix, methods.clone()).route(&format!("{prefix}/{{*rest}}"), methods);
    }
    router.method_not_allowed_fallback(async || StatusCode::NOT_FOUND).with_state(forward.clone())
}

fn layer(engine: &RunningEngine, route: &RouteConfig) -> AuthLayer {
    let mut layer = AuthLayer::new(engine).name(&route.name).require_scopes(&route.scopes).cost(route.cost);
    layer = match route.auth {
        Auth::Required => layer,
        Auth::Optional => layer.optional(),
        Auth::None => layer.without_auth(),
    };
    for audience in &route.audiences {
        layer = layer.audience(audience);
    }
    for limit in &route.limits {
        layer = layer.limit(limit);
    }
    layer.client_ip(|_, extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip()))
}

/// Sends a request to the upstream, with the principal as the identity fields of the gateway.
async fn send(State(forward): State<Forward>, caller: Option<Principal>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let url = format!("{}{}", forward.upstream, parts.uri);
    let mut fields = parts.headers;
    for name in ["host", "connection", "content-length"] {
        fields.remove(name);
    }
    if let Some(caller) = caller {
        let scopes: Vec<&str> = caller.scopes().as_slice().iter().map(|scope| &**scope).collect();
        for (name, value) in [
            ("x-keygate-key-id", caller.key_id().to_string()),
            ("x-keygate-actor-id", caller.actor_id().to_owned()),
            ("x-keygate-tenant-id", caller.tenant().to_string()),
            ("x-keygate-scopes", scopes.join(" ")),
            ("x-keygate-credential-type", caller.credential_kind().name().to_owned()),
        ] {
            fields.insert(name, value.parse().unwrap());
        }
    }
    let body = body.collect().await.unwrap().to_bytes();
    let answer = forward.client.request(parts.method, url).headers(fields).body(body).send().await.unwrap();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    response.headers_mut().insert("x-kept", answer.headers()["x-kept"].clone());
    *response.body_mut() = Body::from(answer.bytes().await.unwrap());
    response
}
