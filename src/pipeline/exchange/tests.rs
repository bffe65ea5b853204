use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use prometheus::Registry;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::cidr::CidrSet;
use crate::clock::SystemClock;
use crate::config::{AddedHeader, Config, GatewayConfig, OnBackendDown, RouteCertificateConfig};
use crate::connection::{ClientCertificate, ConnectionInfo, TlsInfo};
use crate::engine::Engine;
use crate::id::TenantId;
use crate::key::KeyDraft;
use crate::pipeline::{ListenerTrust, Metrics, ResponseForm, ResponseInfo, SnapshotParts};
use crate::ratelimit::{Limiter, Local, Nodes};
use crate::request_context::RequestContext;
use crate::store::MemoryStore;
use crate::verifier::Verifier;

const SECRET: &str = "the current secret, long enough for all";

struct Fixture {
    engine: Engine,
    registry: Registry,
    metrics: Metrics,
    limiter: Arc<Limiter>,
}

fn config() -> Config {
    Config::new("https://keys.example.com".into(), SECRET.to_owned().into(), "memory".into())
}

/// One route for `/orders`; everything that names the snapshot has `name` in it.
fn gateway(name: &str) -> GatewayConfig {
    let route = json!({ "name": name, "path_prefix": "/orders", "upstream": name, "limits": [name] });
    // Tokens are replenished so slowly that no bucket is full again, and thus removed, while a test runs.
    let limits = json!({ name: { "quota": 100_000, "window": "24h" } });
    serde_json::from_value(json!({ "routes": [route], "limits": limits })).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let registry = Registry::new();
        let engine = Engine::over(Arc::new(MemoryStore::default()), &config(), &registry).unwrap();
        let metrics = Metrics::register(&registry).unwrap();
        let limiter_metrics = crate::ratelimit::Metrics::register(&registry, Arc::new(Nodes::alone())).unwrap();
        let local = Local::new(10_000, Arc::new(SystemClock));
        Self { engine, registry, metrics, limiter: Arc::new(Limiter::local(local, limiter_metrics)) }
    }

    fn snapshot(&self, config: &GatewayConfig, verifier: &Arc<Verifier>) -> Arc<Snapshot<String>> {
        let parts = SnapshotParts {
            config,
            verifier: Arc::clone(verifier),
            limiter: Some(Arc::clone(&self.limiter)),
            auth_failures: None,
            on_backend_down: OnBackendDown::default(),
            tenant: TenantId::NIL,
            revoke_with_parent: true,
            live_streams: None,
            metrics: self.metrics.clone(),
            usage: None,
            tracer: None,
            access_log: None,
        };
        Arc::new(Snapshot::new(parts, str::to_owned))
    }

    fn request(&self) -> Request<()> {
        let draft = KeyDraft { name: "n".into(), actor_id: "a".into(), ..KeyDraft::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let context = RequestContext::system(TenantId::NIL);
        let issued = runtime.block_on(self.engine.lifecycle.issue(&context, draft)).unwrap();
        let bearer = format!("Bearer {}", issued.secret.unwrap().expose_secret());
        let request = Request::get("/orders/1?page=2").header("host", "api.example.com");
        request.header("authorization", bearer).body(()).unwrap()
    }

    /// The value of a sample of the gateway's request counter.
    fn count(&self, labels: [(&str, &str); 3]) -> u64 {
        let families = self.registry.gather();
        let requests = families.iter().find(|family| family.name() == "keygate_gateway_requests_total");
        let matches = |metric: &&prometheus::proto::Metric| {
            labels.iter().all(|(name, value)| {
                metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
            })
        };
        let samples = requests.map_or(&[][..], |family| family.get_metric());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of few requests")]
        samples.iter().find(matches).map_or(0, |metric| metric.get_counter().get_value() as u64)
    }
}

fn begin(snapshot: &Arc<Snapshot<String>>, request: &Request<()>, connection: &Connection) -> Exchange<String> {
    Exchange::begin(Arc::clone(snapshot), &RequestHead::from(request), connection)
}

/// The output of a future that is polled once.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn authorizing_a_cached_key_neither_suspends_nor_allocates() {
    const WARM_UP: usize = 10;
    const ROUNDS: usize = 1000;
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let request = fixture.request();
    for reuse_connection in [true, false] {
        let mut connection = Connection::new("192.0.2.1".parse().ok());
        let mut allocating = 0;
        for round in 0..ROUNDS {
            if !reuse_connection {
                connection = Connection::new("192.0.2.1".parse().ok());
            }
            let mut exchange = begin(&snapshot, &request, &connection);
            let mut outcome = None;
            let allocations = allocation_counter::measure(|| {
                outcome = poll_once(exchange.authorize(request.headers(), &mut connection));
            });
            assert!(matches!(outcome, Some(Ok(()))), "round {round}: {outcome:?}");
            // The first requests fill the caches and the buckets.
            allocating += usize::from(round >= WARM_UP && allocations.count_total > 0);
        }
        // A repeated credential of a connection does not read moka. Otherwise moka runs its maintenance after 64 reads, which allocates.
        let allowed = if reuse_connection { 0 } else { ROUNDS / 32 };
        assert!(allocating <= allowed, "{allocating} of {ROUNDS} authorizations allocate");
    }
}

/// A connection in clear text from a peer, on a listener that trusts 10.0.0.0/8.
fn connection_from(peer: &str, require_tls: bool) -> Connection {
    let proxies = CidrSet::parse(&["10.0.0.0/8"]).unwrap();
    let trust = ListenerTrust { proxies, require_tls, ..ListenerTrust::default() };
    Connection::of(&ConnectionInfo::plain(format!("{peer}:4711").parse().ok()), &Arc::new(trust))
}

#[test]
fn address_of_an_untrusted_peer_is_found_without_allocation() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let mut request = fixture.request();
    let count = |request: &Request<()>, connection: &Connection| {
        let mut begun = None;
        let allocations = allocation_counter::measure(|| begun = Some(begin(&snapshot, request, connection)));
        allocations.count_total
    };
    let connection = connection_from("192.0.2.1", true);
    let without_fields = count(&request, &Connection::new("192.0.2.1".parse().ok()));
    for (name, value) in
        [("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("forwarded", "for=1.1.1.1"), ("x-forwarded-proto", "https")]
    {
        request.headers_mut().append(name, HeaderValue::from_static(value));
    }
    assert_eq!(count(&request, &connection), without_fields);
    assert_eq!(begin(&snapshot, &request, &connection).client_ip, "192.0.2.1".parse().ok());
}

#[test]
fn peer_of_a_unix_socket_is_a_proxy_if_the_listener_has_any() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let request = Request::get("/orders").header("x-forwarded-for", "192.0.2.1, 10.0.0.2").body(()).unwrap();
    for (ranges, client) in [(&["10.0.0.0/8"][..], Some("192.0.2.1")), (&[], None)] {
        let trust = ListenerTrust { proxies: CidrSet::parse(ranges).unwrap(), ..ListenerTrust::default() };
        let connection = Connection::of(&ConnectionInfo::plain(None), &Arc::new(trust));
        let exchange = begin(&snapshot, &request, &connection);
        assert_eq!((exchange.client_ip, exchange.proxy), (client.map(|client| client.parse().unwrap()), None));
    }
}

#[test]
fn upstream_is_told_the_client_of_each_request() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let mut request = fixture.request();
    for (name, value) in [
        ("x-forwarded-for", "x, 192.0.2.1, 10.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
    ] {
        request.headers_mut().append(name, HeaderValue::from_static(value));
    }
    for (peer, [client, proxy], told) in [
        ("10.0.0.1", ["192.0.2.1", "10.0.0.1"], ["192.0.2.1, 10.0.0.2, 10.0.0.1", "https", "a.example"]),
        ("192.0.2.9", ["192.0.2.9", ""], ["192.0.2.9", "http", "api.example.com"]),
    ] {
        let mut connection = connection_from(peer, false);
        for _ in 0..2 {
            let mut exchange = begin(&snapshot, &request, &connection);
            assert_eq!((exchange.client_ip, exchange.proxy), (client.parse().ok(), proxy.parse().ok()), "{peer}");
            poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap().unwrap();
            let mut fields = request.headers().clone();
            let host = HeaderValue::from_static("upstream:9000");
            exchange.request_edits(request.headers(), &mut connection, host).unwrap().fields.apply(&mut fields);
            let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
            assert_eq!(names.map(|name| fields[name].to_str().unwrap()), told, "{peer}");
        }
    }
}

#[test]
fn credential_without_tls_is_rejected_before_everything_else() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let rejection = |uri: &str, fields: &[(&str, &str)], mut connection: Connection| {
        let request = fields.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).unwrap();
        let mut exchange = begin(&snapshot, &request, &connection);
        poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap().unwrap_err()
    };
    for uri in ["/orders", "/other"] {
        for (name, value) in [("authorization", "Bearer x"), ("authorization", ""), ("x-api-key", "x")] {
            let told = [(name, value), ("x-forwarded-proto", "https")];
            for connection in [connection_from("192.0.2.1", true), connection_from("10.0.0.1", true)] {
                assert_eq!(rejection(uri, &told[..1], connection), Rejection::TlsRequired);
            }
            assert_eq!(rejection(uri, &told, connection_from("192.0.2.1", true)), Rejection::TlsRequired);
            assert_ne!(rejection(uri, &told, connection_from("10.0.0.1", true)), Rejection::TlsRequired);
            assert_ne!(rejection(uri, &told[..1], connection_from("192.0.2.1", false)), Rejection::TlsRequired);
        }
        assert_ne!(rejection(uri, &[], connection_from("192.0.2.1", true)), Rejection::TlsRequired);
    }
    let info = ConnectionInfo { tls: Some(TlsInfo::default()), ..ConnectionInfo::plain("192.0.2.1:1".parse().ok()) };
    let trust = ListenerTrust { require_tls: true, ..ListenerTrust::default() };
    let over_tls = Connection::of(&info, &Arc::new(trust));
    assert_ne!(rejection("/orders", &[("x-api-key", "x")], over_tls), Rejection::TlsRequired);
}

#[test]
fn abandoned_exchange_is_counted_and_leaves_the_requests_in_flight() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let request = fixture.request();
    let mut connection = Connection::default();
    let mut exchange = begin(&snapshot, &request, &connection);
    assert_eq!(fixture.metrics.in_flight(), 1);
    assert!(poll_once(exchange.authorize(request.headers(), &mut connection)).is_some());
    drop(exchange);
    assert_eq!(fixture.metrics.in_flight(), 0);
    assert_eq!(fixture.count([("route", "a"), ("status", "499"), ("denial", "")]), 1);
}

#[cfg(feature = "server")]
#[test]
fn abandoned_exchange_is_logged() {
    use std::io::Write;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let fixture = Fixture::new();
        let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
        let request = Request::get("/orders/../orders/1?secret=x").header("x-request-id", "r-1").body(()).unwrap();
        drop(begin(&snapshot, &request, &Connection::default()));
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("keygate::access")).unwrap();
    for part in [r#""status":499"#, r#""path":"/orders/../orders/1""#, r#""request_id":"r-1""#, r#""route":"a""#] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!text.contains("secret=x"), "{text}");
}

#[test]
fn finished_exchange_is_counted_once() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let request = Request::get("/orders").body(()).unwrap();
    let mut connection = Connection::default();
    let mut exchange = begin(&snapshot, &request, &connection);
    let outcome = poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap();
    let response = exchange.reject(&outcome.unwrap_err(), ResponseForm::default());
    exchange.finish(ResponseInfo::new(response.status().as_u16(), response.body().len()));
    let labels = [("route", "a"), ("status", "401"), ("denial", "credential_missing")];
    assert_eq!((fixture.count(labels), fixture.metrics.in_flight()), (1, 0));
    assert_eq!(fixture.count([("route", "a"), ("status", "499"), ("denial", "")]), 0);
}

#[test]
fn request_without_a_route_is_rejected_and_its_path_is_kept() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    for (uri, path, rejection) in [
        ("/other?x=1", "/other", Rejection::RouteNotFound),
        ("/%zz", "/%zz", Rejection::RouteNotFound),
        ("*", "*", Rejection::RouteNotFound),
    ] {
        let request = Request::get(uri).body(()).unwrap();
        let mut connection = Connection::default();
        let mut exchange = begin(&snapshot, &request, &connection);
        assert_eq!(exchange.received_path(), path);
        let outcome = poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap();
        assert_eq!(outcome, Err(rejection), "{uri}");
        assert!(exchange.request_edits(request.headers(), &mut connection, HeaderValue::from_static("u")).is_none());
    }
}

#[test]
fn edits_exist_only_after_authorization() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let request = fixture.request();
    let mut connection = Connection::new("192.0.2.1".parse().ok());
    let mut exchange = begin(&snapshot, &request, &connection);
    let host = HeaderValue::from_static("upstream:9000");
    assert!(exchange.request_edits(request.headers(), &mut connection, host.clone()).is_none());
    poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap().unwrap();
    let mut fields = request.headers().clone();
    let mut edits = exchange.request_edits(request.headers(), &mut connection, host).unwrap();
    assert_eq!(edits.target, "/orders/1?page=2");
    edits.fields.apply(&mut fields);
    assert_eq!((fields.get("authorization"), &fields["host"]), (None, &HeaderValue::from_static("upstream:9000")));
    assert_eq!(
        (&fields["x-keygate-actor-id"], &fields["x-forwarded-host"]),
        (&"a".parse().unwrap(), &"api.example.com".parse().unwrap())
    );
}

#[test]
fn route_that_requires_a_certificate_rejects_clients_without_it() {
    let fixture = Fixture::new();
    let mut config = gateway("a");
    let demand = RouteCertificateConfig { subjects: vec!["CN=reports".into()], sans: Vec::new() };
    config.routes[0].client_certificate = Some(demand);
    config.request_headers = vec![AddedHeader::XKeygateClientSubject, AddedHeader::XKeygateClientSan];
    let snapshot = fixture.snapshot(&config, &fixture.engine.verifier);
    let request = fixture.request();
    let certificate = |subject: &str| ClientCertificate { subject: subject.into(), san: ["URI:urn:a".into()].into() };
    for certificate in [None, Some(certificate("CN=other"))] {
        let mut connection = Connection::default().with_certificate(certificate);
        let mut exchange = begin(&snapshot, &request, &connection);
        let rejection = poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap().unwrap_err();
        assert!(matches!(rejection, Rejection::ClientCertificateRequired));
        assert_eq!(exchange.reject(&rejection, ResponseForm::default()).status(), StatusCode::FORBIDDEN);
    }
    let mut connection = Connection::default().with_certificate(Some(certificate("CN=reports")));
    let mut exchange = begin(&snapshot, &request, &connection);
    poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap().unwrap();
    let mut fields = request.headers().clone();
    fields.insert("x-keygate-client-subject", HeaderValue::from_static("CN=admin"));
    fields.insert("x-keygate-client-san", HeaderValue::from_static("URI:urn:admin"));
    let host = HeaderValue::from_static("upstream:9000");
    exchange.request_edits(&fields, &mut connection, host).unwrap().fields.apply(&mut fields);
    assert_eq!(
        (&fields["x-keygate-client-subject"], &fields["x-keygate-client-san"]),
        (&"CN=reports".parse().unwrap(), &"URI:urn:a".parse().unwrap())
    );
}

#[test]
fn upstream_failure_of_a_charged_request_describes_its_limits() {
    let fixture = Fixture::new();
    let snapshot = fixture.snapshot(&gateway("a"), &fixture.engine.verifier);
    let request = fixture.request();
    let mut connection = Connection::default();
    let mut exchange = begin(&snapshot, &request, &connection);
    poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap().unwrap();
    let response = exchange.reject(&Rejection::UpstreamUnreachable, ResponseForm::default());
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(response.headers()["ratelimit"].to_str().unwrap().contains(r#""a";r=99999"#), "{response:?}");
}

/// What one exchange shows of the snapshot that it uses: route, upstream, limit, and whether the proof of the other snapshot counts.
fn observe(snapshot: &Arc<Snapshot<String>>, request: &Request<()>, connection: &mut Connection) -> [String; 4] {
    let mut exchange = begin(snapshot, request, connection);
    let outcome = poll_once(exchange.authorize(request.headers(), connection)).unwrap();
    let route = Arc::clone(exchange.route().unwrap());
    let mut fields = HeaderMap::new();
    exchange.response_edits(StatusCode::OK, &HeaderMap::new()).apply(&mut fields);
    let limit = fields.get("ratelimit-policy").map_or("", |policy| policy.to_str().unwrap());
    let limit = limit.split('"').nth(1).unwrap_or_default().to_owned();
    [route.name.to_string(), route.upstream.clone(), limit, outcome.is_ok().to_string()]
}

/// Two snapshots whose verifiers accept and deny the same key.
fn accepting_and_denying(fixture: &Fixture) -> [Arc<Snapshot<String>>; 2] {
    let mut other = config();
    other.credentials.api_keys.prefix.current = "other".into();
    let denying = Arc::new(fixture.engine.verifier.with_settings(Engine::verifier_settings(&other)));
    [fixture.snapshot(&gateway("a"), &fixture.engine.verifier), fixture.snapshot(&gateway("b"), &denying)]
}

#[test]
fn proof_of_another_generation_is_not_used() {
    let fixture = Fixture::new();
    let [accepting, denying] = accepting_and_denying(&fixture);
    let request = fixture.request();
    let mut connection = Connection::default();
    for _ in 0..3 {
        assert_eq!(observe(&accepting, &request, &mut connection), ["a", "a", "a", "true"]);
        assert_eq!(observe(&denying, &request, &mut connection), ["b", "b", "", "false"]);
    }
}

#[test]
fn no_request_sees_half_of_each_snapshot() {
    const REQUESTS: usize = 20_000;
    let fixture = Fixture::new();
    let [accepting, denying] = accepting_and_denying(&fixture);
    let request = fixture.request();
    // Afterwards the key is cached: a thread that waits for the lookup of another one would suspend.
    observe(&accepting, &request, &mut Connection::default());
    let current = ArcSwap::new(Arc::clone(&accepting));
    let (is_done, seen) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                current.store(Arc::clone(&denying));
                current.store(Arc::clone(&accepting));
            }
        });
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::default();
                    for _ in 0..REQUESTS {
                        let observed = observe(&current.load_full(), &request, &mut connection);
                        let observed = observed.each_ref().map(String::as_str);
                        let index = match observed {
                            ["a", "a", "a", "true"] => 0,
                            ["b", "b", "", "false"] => 1,
                            mixed => panic!("a request saw {mixed:?}"),
                        };
                        seen[index].fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) > 0), "both snapshots were used: {seen:?}");
}

#[test]
fn request_on_a_known_route_with_two_hosts_stays_rejected() {
    let fixture = Fixture::new();
    let config = gateway("a");
    let snapshot = fixture.snapshot(&config, &fixture.engine.verifier);
    let mut request = fixture.request();
    let (route, _) = snapshot.find_route(&RequestHead::from(&request)).unwrap();
    request.headers_mut().append("host", HeaderValue::from_static("other.example.com"));
    let mut connection = Connection::default();
    let mut exchange = Exchange::begin_on(Arc::clone(&snapshot), route, &request, &connection);
    for _ in 0..2 {
        let outcome = poll_once(exchange.authorize(request.headers(), &mut connection)).unwrap();
        assert!(matches!(outcome, Err(Rejection::RequestInvalid(_))), "{outcome:?}");
    }
}
