use std::sync::{Arc, LazyLock};

use http::{HeaderMap, Method};
use prometheus::Registry;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::engine::Engine;
use crate::store::MemoryStore;

const SECRET: &str = "a secret of at least 32 characters";

fn snapshot(routes: &serde_json::Value) -> Snapshot {
    let gateway: GatewayConfig = serde_json::from_value(json!({ "routes": routes })).unwrap();
    let config = Config::new("https://keys.example.com".into(), SECRET.to_owned().into(), "memory".into());
    let registry = Registry::new();
    let engine = Engine::over(Arc::new(MemoryStore::default()), &config, &registry).unwrap();
    let parts = SnapshotParts {
        config: &gateway,
        verifier: Arc::clone(&engine.verifier),
        limiter: None,
        auth_failures: None,
        on_backend_down: OnBackendDown::default(),
        tenant: TenantId::NIL,
        revoke_with_parent: true,
        live_streams: None,
        metrics: Metrics::register(&registry).unwrap(),
        usage: None,
        tracer: None,
        access_log: None,
    };
    Snapshot::new(parts, |_| ())
}

/// Routes with another prefix at the upstream, and routes for a part of each.
fn rewriting() -> Snapshot {
    snapshot(&json!([
        { "name": "v1", "path_prefix": "/v1", "rewrite": "/internal" },
        { "name": "v1-admin", "path_prefix": "/v1/admin", "rewrite": "/internal/admin" },
        { "name": "strip", "path_prefix": "/strip", "strip_prefix": "/strip" },
        { "name": "strip-admin", "path_prefix": "/strip/admin", "strip_prefix": "/strip" },
        { "name": "deep", "path_prefix": "/a/b/c", "rewrite": "/Deep/er" },
    ]))
}

/// The route of a path and the path that is forwarded.
fn forwarded(snapshot: &Snapshot, path: &str) -> Option<(String, String)> {
    let fields = HeaderMap::new();
    let head =
        RequestHead { method: &Method::GET, authority: Some("h"), path, query: None, version: None, fields: &fields };
    let (route, target) = snapshot.find_route(&head).ok()?;
    Some((route.name.to_string(), target.path().to_owned()))
}

#[test]
fn rewritten_path_is_judged() {
    let snapshot = rewriting();
    for (path, expected) in [
        ("/v1", Some(("v1", "/internal"))),
        ("/v1/", Some(("v1", "/internal/"))),
        ("//v1//orders/./x", Some(("v1", "/internal/orders/x"))),
        ("/v1x", None),
        ("/v1/../x", None),
        ("/v1%2f..", None),
        ("/v1/..%2fx", None),
        ("/v1/a%2fb", Some(("v1", "/internal/a%2Fb"))),
        ("/v1/a%2f..%2fb", Some(("v1", "/internal/a%2F..%2Fb"))),
        ("/v1/Orders;v=1", Some(("v1", "/internal/Orders;v=1"))),
        ("/v1//admin", Some(("v1-admin", "/internal/admin"))),
        ("/v1/Admin", None),
        ("/v1/a%2f..%2fadmin", None),
        ("/v1/..%2finternal/x", None),
        ("/v1;x/a", None),
        ("/strip", Some(("strip", "/"))),
        ("/strip/x/..", Some(("strip", "/"))),
        ("/strip/orders/", Some(("strip", "/orders/"))),
        ("/strip/admin/1", Some(("strip-admin", "/admin/1"))),
        ("/strip/%2fadmin", None),
        ("/strip/x%2f..%2fadmin", None),
        ("/strip/..%2fadmin", None),
        ("/strip/..%2fstrip/x", Some(("strip", "/..%2Fstrip/x"))),
        ("/a/b/c/x", Some(("deep", "/Deep/er/x"))),
        // The client's path stays below the prefix in every interpretation, the upstream's leaves the base.
        ("/a/b/c/..%2fc/x", None),
        ("/a/b/c/..%2f..%2fb/c/x", None),
    ] {
        let expected = expected.map(|(name, path): (&str, &str)| (name.to_owned(), path.to_owned()));
        assert_eq!(forwarded(&snapshot, path), expected, "{path}");
    }
}

#[test]
fn query_and_host_are_kept() {
    let snapshot = rewriting();
    let fields = HeaderMap::new();
    let head = RequestHead {
        method: &Method::GET,
        authority: Some("H:80"),
        path: "/v1/x",
        query: Some("a=/v1"),
        version: None,
        fields: &fields,
    };
    let (_, target) = snapshot.find_route(&head).unwrap();
    assert_eq!((target.host(), target.path_and_query()), ("H:80", "/internal/x?a=/v1"));
}

const TRICKS: &str = "/(v1|strip|a/b/c)/?(admin|internal|strip|v1|b|c|x|A|[./\\\\;?]|%2[ef]|%252f|%25252e|%5c|%3f|%20|::\\$DATA|%ef%bc%8[ef]|\\.\\.%2f){0,8}";

proptest! {
    /// Whatever an upstream understands, it is below the base, and not in the part that belongs to another route.
    #[test]
    fn every_interpretation_of_a_rewritten_path_belongs_to_its_route(raw in TRICKS) {
        static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(rewriting);
        let Some((name, path)) = forwarded(&SNAPSHOT, &raw) else { return Ok(()) };
        let below = |path: &str, base: &str| path == base || path.starts_with(&format!("{base}/"));
        let path = NormalPath::parse(&path).unwrap();
        let interpretations = path.interpretations().iter().map(String::as_str).chain([path.permissive()]);
        for understood in interpretations {
            let is_within = match &*name {
                "v1" => below(understood, "/internal") && !below(understood, "/internal/admin"),
                "v1-admin" => below(understood, "/internal/admin"),
                "strip" => !below(understood, "/admin"),
                "strip-admin" => below(understood, "/admin"),
                _ => below(&understood.to_ascii_lowercase(), "/deep/er"),
            };
            prop_assert!(is_within, "{raw} is forwarded by {name} as {path:?}");
        }
    }
}
