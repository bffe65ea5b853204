use std::time::Duration;

use arc_swap::ArcSwap;
use http::Request;
use prometheus::Registry;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::cache::{Caches, KeyCache, RevokedParents};
use crate::cidr::CidrSet;
use crate::clock::{ManualClock, Timestamp};
use crate::config::{Config, GatewayConfig, OnBackendDown};
use crate::credential::SigningKeys;
use crate::engine::{Engine, EngineParts};
use crate::id::{RequestId, TenantId};
use crate::key::{ApiKey, KeyDraft, RevokeKey};
use crate::lifecycle::{DeriveToken, ImportKey, TokenForm};
use crate::pipeline::{Connection, Exchange, Metrics, SnapshotParts};
use crate::policy::RateLimitPolicy;
use crate::ratelimit::{Limiter, Local, Nodes};
use crate::request_context::{ActorScope, Principal, RequestContext};
use crate::store::{KeyStore, MemoryStore};

const SIGNING_KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","use":"sig",
    "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

/// An engine and a snapshot over it, at one fixed time.
struct Fixture {
    engine: Engine,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    snapshot: Arc<Snapshot>,
}

fn context() -> RequestContext {
    let request_id = RequestId::random();
    RequestContext {
        tenant: TenantId::NIL,
        principal: Principal::Anonymous,
        actors: ActorScope::All,
        client_ip: None,
        request_id,
    }
}

fn draft() -> KeyDraft {
    KeyDraft {
        name: "n".into(),
        actor_id: "ana".into(),
        scopes: vec!["read".into()],
        ttl: Some(Duration::from_secs(3600)),
        ..KeyDraft::default()
    }
}

impl Fixture {
    fn new() -> Self {
        let secret = "a secret of at least 32 characters".to_owned();
        let config = Config::new("https://keys.example.com".into(), secret.into(), "memory".into());
        let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(ManualClock::new(at(0))));
        let cache = Arc::new(KeyCache::new(1 << 20, Duration::from_secs(60)));
        let parts = EngineParts {
            config: &config,
            store: store.clone(),
            caches: Caches::alone(Some(cache), Arc::new(RevokedParents::new(Duration::from_secs(3600), 100))),
            signing_keys: Arc::new(ArcSwap::from_pointee(SigningKeys::parse(SIGNING_KEYS).unwrap())),
            clock: clock.clone(),
            tracker: None,
            throttle: None,
        };
        let registry = Registry::new();
        let engine = Engine::new(parts, &registry).unwrap();
        let gateway: GatewayConfig = serde_json::from_value(json!({
            "routes": [
                { "name": "read", "path_prefix": "/read", "scopes": ["read"], "upstream": "u" },
                { "name": "write", "path_prefix": "/write", "methods": ["POST"], "scopes": ["read", "write"], "upstream": "u" },
                { "name": "bound", "path_prefix": "/bound", "audiences": ["https://a.example"], "upstream": "u" },
                { "name": "optional", "path_prefix": "/optional", "auth": "optional", "upstream": "u" },
                { "name": "open", "path_prefix": "/open", "auth": "none", "upstream": "u" },
                { "name": "two", "path_prefix": "/two", "limits": ["few"], "cost": 2, "upstream": "u" },
                { "name": "dry", "path_prefix": "/dry", "limits": ["none"], "cost": 9, "upstream": "u" }
            ],
            "limits": {
                "few": { "quota": 3, "window": "24h", "count_by": "actor" },
                "none": { "quota": 1, "window": "24h", "dry_run": true }
            },
            "upstreams": { "u": { "endpoints": ["http://127.0.0.1:9"] } }
        }))
        .unwrap();
        let limiter_metrics = crate::ratelimit::Metrics::register(&registry, Arc::new(Nodes::alone())).unwrap();
        let parts = SnapshotParts {
            config: &gateway,
            verifier: engine.verifier.clone(),
            limiter: Some(Arc::new(Limiter::local(Local::new(10_000, clock.clone()), limiter_metrics))),
            auth_failures: None,
            on_backend_down: OnBackendDown::default(),
            tenant: TenantId::NIL,
            live_streams: None,
            revoke_with_parent: true,
            metrics: Metrics::register(&registry).unwrap(),
            usage: None,
            tracer: None,
            access_log: None,
        };
        let snapshot = Arc::new(Snapshot::new(parts, |_| ()));
        Self { engine, store, clock, snapshot }
    }

    async fn issue(&self, draft: KeyDraft) -> (KeyId, String) {
        let issued = self.engine.lifecycle.issue(&context(), draft).await.unwrap();
        (issued.key.id, issued.secret.unwrap().expose_secret().to_owned())
    }

    async fn derive(&self, credential: &str, form: TokenForm, audiences: &[&str]) -> String {
        let presented = Presented::new(TenantId::NIL, credential, Instant::now());
        let parent = self.engine.verifier.verify(&presented).await.outcome.unwrap();
        let audiences = audiences.iter().map(ToString::to_string).collect();
        let command = DeriveToken { form, audiences, ttl: Some(Duration::from_secs(600)), ..DeriveToken::default() };
        let derived = self.engine.lifecycle.derive(&context(), parent.record().unwrap(), command).await.unwrap();
        derived.token.expose_secret().to_owned()
    }

    async fn explain(&self, credential: &str, method: &str, path: &str, client_ip: Option<&str>) -> Explanation {
        let request = ExplainRequest {
            subject: ExplainSubject::Credential(credential),
            target: Some((method.parse().unwrap(), path.parse().unwrap())),
            client_ip: client_ip.map(|address| address.parse().unwrap()),
        };
        self.snapshot.explain(&request).await
    }

    /// The decision of the pipeline about a real request.
    async fn decide(&self, credential: &str, method: &str, path: &str, client_ip: &str) -> Result<(), Rejection> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {credential}")).body(()).unwrap();
        let mut connection = Connection::new(client_ip.parse().ok());
        let mut exchange = Exchange::begin(Arc::clone(&self.snapshot), &RequestHead::from(&request), &connection);
        exchange.authorize(request.headers(), &mut connection).await
    }
}

fn outcome<'e>(explanation: &'e Explanation, step: &str) -> &'e StepOutcome {
    &explanation.steps.iter().find(|(name, _)| *name == step).unwrap().1
}

/// `passed`, the code of a failure, or `skipped` for each step.
fn outcomes(explanation: &Explanation) -> Vec<&'static str> {
    let text = |outcome: &StepOutcome| match outcome {
        StepOutcome::Passed(_) => "passed",
        StepOutcome::Failed(rejection, _) => rejection.code(),
        StepOutcome::Skipped(_) => "skipped",
    };
    explanation.steps.iter().map(|(_, outcome)| text(outcome)).collect()
}

/// Credentials of every kind and in every state.
async fn credentials(fixture: &Fixture) -> Vec<(&'static str, String)> {
    let lifecycle = &fixture.engine.lifecycle;
    let (_, valid) = fixture.issue(draft()).await;
    let (_, writer) = fixture.issue(KeyDraft { scopes: vec!["read".into(), "write".into()], ..draft() }).await;
    let (revoked_id, revoked) = fixture.issue(draft()).await;
    let (_, expired) = fixture.issue(KeyDraft { ttl: Some(Duration::from_secs(60)), ..draft() }).await;
    let networks = CidrSet::parse(&["10.0.0.0/8"]).unwrap();
    let (_, bound) = fixture.issue(KeyDraft { networks, ..draft() }).await;
    let policy = RateLimitPolicy { quota: 2.try_into().unwrap(), window: Duration::from_secs(86_400) };
    let (_, limited) = fixture.issue(KeyDraft { rate_limit: Some(policy), ..draft() }).await;
    let import = ImportKey { raw_key: "sk_live_1".to_owned().into(), draft: draft() };
    lifecycle.import(&context(), import).await.unwrap();
    let jwt = fixture.derive(&limited, TokenForm::Jwt, &[]).await;
    let orphan = fixture.derive(&revoked, TokenForm::Macaroon, &[]).await;
    let macaroon = fixture.derive(&bound_by(fixture).await, TokenForm::Macaroon, &["https://a.example"]).await;
    lifecycle.revoke(&context(), revoked_id, RevokeKey::default()).await.unwrap();
    let other_end = if valid.ends_with('x') { 'y' } else { 'x' };
    let forged = format!("{}{other_end}", &valid[..valid.len() - 1]);
    let forged_token = format!("{}A", &jwt[..jwt.len() - 2]);
    fixture.clock.set(at(120));
    vec![
        ("valid", valid),
        ("writer", writer),
        ("revoked", revoked),
        ("expired", expired),
        ("bound", bound),
        ("limited", limited),
        ("imported", "sk_live_1".into()),
        ("unknown", "sk_live_2".into()),
        ("forged", forged),
        ("jwt", jwt),
        ("orphan", orphan),
        ("macaroon", macaroon),
        ("forged token", forged_token),
        ("empty", String::new()),
        ("space", "a b".into()),
        ("too long", "a".repeat(8193)),
    ]
}

/// An unrestricted parent for tokens with audiences.
async fn bound_by(fixture: &Fixture) -> String {
    fixture.issue(draft()).await.1
}

#[tokio::test]
async fn explained_decision_is_that_of_the_pipeline() {
    let fixture = Fixture::new();
    let credentials = credentials(&fixture).await;
    let requests = [
        ("GET", "/read/1"),
        ("GET", "/write"),
        ("POST", "/write"),
        ("GET", "/bound"),
        ("GET", "/optional"),
        ("GET", "/open"),
        ("GET", "/two"),
        ("GET", "/dry"),
        ("GET", "/elsewhere"),
        ("GET", "/read/%2e%2e/open"),
    ];
    let (mut accepted, mut codes) = (0, std::collections::BTreeSet::new());
    // Twice: with cold caches and full buckets, and after the first round has used them.
    for round in 0..2 {
        for (name, credential) in &credentials {
            for (method, path) in requests {
                for client in ["10.1.1.1", "192.0.2.1"] {
                    let explained = fixture.explain(credential, method, path, Some(client)).await;
                    let again = fixture.explain(credential, method, path, Some(client)).await;
                    assert_eq!(outcomes(&explained), outcomes(&again), "explaining changes nothing");
                    let decided = fixture.decide(credential, method, path, client).await;
                    let explained = explained.rejection.map_or(Ok(()), |(_, rejection)| Err(rejection));
                    assert_eq!(explained, decided, "{round} {name} {method} {path} {client}");
                    match decided {
                        Ok(()) => accepted += 1,
                        Err(rejection) => drop(codes.insert(rejection.code())),
                    }
                }
            }
        }
    }
    assert!(accepted > 100, "{accepted} accepted");
    let expected = [
        "address_not_allowed",
        "audience_mismatch",
        "credential_expired",
        "credential_invalid",
        "credential_malformed",
        "credential_revoked",
        "quota_exceeded",
        "route_not_found",
        "scope_insufficient",
    ];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), expected, "every step is reached");
}

#[tokio::test]
async fn all_steps_are_made_that_can_be() {
    let fixture = Fixture::new();
    let credentials = credentials(&fixture).await;
    let explained = async |name: &str, path: &str, client: Option<&str>| {
        let credential = &credentials.iter().find(|(other, _)| *other == name).unwrap().1;
        let explanation = fixture.explain(credential, "GET", path, client).await;
        (outcomes(&explanation), explanation.undecided, explanation.route.is_some())
    };
    let p = "passed";
    let all = |outcomes: [&'static str; 9]| outcomes.to_vec();
    let expected = all([p, p, p, "credential_expired", p, p, p, p, p]);
    assert_eq!(explained("expired", "/read", None).await, (expected, None, true));
    let expected = all([p, "credential_invalid", "skipped", "skipped", "skipped", "skipped", p, "skipped", "skipped"]);
    assert_eq!(explained("forged", "/read", None).await, (expected, None, true));
    let expected = all([p, p, "credential_invalid", "skipped", "skipped", "skipped", p, "skipped", "skipped"]);
    assert_eq!(explained("unknown", "/read", None).await, (expected, None, true));
    let expected = all([p, p, p, p, "skipped", p, p, p, p]);
    assert_eq!(explained("bound", "/read", None).await, (expected, Some("address"), true));
    let expected = all([p, p, "skipped", p, p, "audience_mismatch", p, p, p]);
    assert_eq!(explained("macaroon", "/read", Some("10.0.0.1")).await, (expected, None, true));
    let expected = all([p, p, p, p, p, p, "route_not_found", "skipped", "skipped"]);
    assert_eq!(explained("valid", "/elsewhere", None).await, (expected, None, false));
    let open = fixture.explain("anything", "GET", "/open", None).await;
    assert_eq!(
        outcomes(&open),
        all(["skipped", "skipped", "skipped", "skipped", "skipped", "skipped", p, "skipped", p])
    );
}

#[tokio::test]
async fn text_that_no_field_can_carry_is_malformed() {
    let fixture = Fixture::new();
    let explained = fixture.explain("a\nb", "GET", "/read", None).await;
    assert_eq!(explained.rejection, Some(("format", Rejection::CredentialMalformed)));
}

#[tokio::test]
async fn explaining_charges_nothing() {
    let fixture = Fixture::new();
    let policy = RateLimitPolicy { quota: 1.try_into().unwrap(), window: Duration::from_secs(86_400) };
    let (_, key) = fixture.issue(KeyDraft { rate_limit: Some(policy), ..draft() }).await;
    for _ in 0..5 {
        let explained = fixture.explain(&key, "GET", "/read", None).await;
        assert!(explained.rejection.is_none());
        assert!(matches!(outcome(&explained, "limits"), StepOutcome::Passed(text) if text.contains("1 of 1 left")));
    }
    assert_eq!(fixture.decide(&key, "GET", "/read", "192.0.2.1").await, Ok(()));
    let explained = fixture.explain(&key, "GET", "/read", None).await;
    assert!(matches!(outcome(&explained, "limits"), StepOutcome::Failed(_, text) if text.contains("0 of 1 left")));
}

#[tokio::test]
async fn explaining_does_not_make_an_absent_key_known_as_absent() {
    let fixture = Fixture::new();
    let (tenant, id) = (TenantId::NIL, crate::credential::imported_key_id(TenantId::NIL, "sk_live_9"));
    for _ in 0..2 {
        let explained = fixture.explain("sk_live_9", "GET", "/read", None).await;
        assert_eq!(explained.rejection.map(|(step, _)| step), Some("record"));
    }
    // No change is recorded, so the caches are not invalidated.
    let (issued, _) = fixture.issue(draft()).await;
    let issued = fixture.engine.lifecycle.get(&context(), issued).await.unwrap();
    fixture.store.insert(&context(), &ApiKey { tenant, id, ..issued }, None).await.unwrap();
    assert_eq!(fixture.decide("sk_live_9", "GET", "/read", "192.0.2.1").await, Ok(()));
}

#[tokio::test]
async fn key_is_explained_by_its_id() {
    let fixture = Fixture::new();
    let (id, _) = fixture.issue(draft()).await;
    let explain = async |id: KeyId, path: &str| {
        let target = (!path.is_empty()).then(|| (Method::GET, path.parse().unwrap()));
        fixture.snapshot.explain(&ExplainRequest { subject: ExplainSubject::Key(id), target, client_ip: None }).await
    };
    let p = "passed";
    assert_eq!(outcomes(&explain(id, "/read").await), ["skipped", "skipped", p, p, p, p, p, p, p]);
    let alone = explain(id, "").await;
    assert_eq!(outcomes(&alone), ["skipped", "skipped", p, p, p, p, "skipped", "skipped", "skipped"]);
    assert!(matches!(outcome(&alone, "route"), StepOutcome::Skipped(text) if text == "no method and URL were given"));
    fixture.engine.lifecycle.revoke(&context(), id, RevokeKey::default()).await.unwrap();
    let revoked = explain(id, "/read").await;
    assert_eq!(
        revoked.rejection.map(|(step, rejection)| (step, rejection.code())),
        Some(("status", "credential_revoked"))
    );
    let absent = explain(KeyId::Issued(uuid::Uuid::from_u128(7)), "/read").await;
    assert_eq!(absent.rejection.map(|(step, _)| step), Some("record"));
}
