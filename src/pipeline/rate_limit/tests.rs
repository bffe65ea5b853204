use std::net::IpAddr;
use std::num::NonZeroU64;

use super::*;
use crate::config::LimitConfig;
use crate::duration::ConfigDuration;
use crate::id::TenantId;

fn limit(count_by: CountBy, dry_run: bool) -> LimitConfig {
    LimitConfig { quota: NonZeroU64::MIN, window: ConfigDuration(Duration::from_secs(60)), count_by, dry_run }
}

/// Charges an anonymous request from an address that may be known.
fn charge(limits: &[(&str, LimitConfig)], legacy_fields: bool, client_ip: Option<IpAddr>) -> RateLimitOutcome {
    let names: Vec<_> = limits.iter().map(|(name, _)| *name).collect();
    let route = serde_json::json!({ "name": "api", "upstream": "a", "path_prefix": "/", "limits": names });
    let mut config = GatewayConfig {
        limits: limits.iter().map(|(name, limit)| ((*name).to_owned(), limit.clone())).collect(),
        routes: vec![serde_json::from_value(route).unwrap()],
        ..GatewayConfig::default()
    };
    config.limit_headers.x_ratelimit = legacy_fields;
    let clock = Arc::new(crate::clock::ManualClock::new(crate::clock::Timestamp::UNIX_EPOCH));
    let registry = prometheus::Registry::new();
    let metrics = crate::ratelimit::Metrics::register(&registry, Arc::default()).unwrap();
    let limiter = Limiter::local(crate::ratelimit::Local::new(10_000, clock), metrics);
    let limits = Limits::new(&config, Arc::new(limiter), OnBackendDown::Local).of_route(&config.routes[0]);
    let caller = Caller { tenant: TenantId::NIL, verdict: None, key_limit: None, client_ip };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(limits.charge(&caller))
}

fn charged(legacy_fields: bool) -> RateLimitOutcome {
    charge(&[("burst", limit(CountBy::Tenant, false))], legacy_fields, None)
}

fn edited(charged: &RateLimitOutcome, upstream: UpstreamLimitFields) -> Vec<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ratelimit-policy", r#""theirs";q=9;w=1"#),
        ("ratelimit", r#""theirs";r=8;t=1"#),
        ("x-ratelimit-limit", "9"),
        ("x-other", "kept"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let mut edits = FieldEdits::default();
    charged.fields().edit(&mut edits, &headers, upstream);
    edits.apply(&mut headers);
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    fields
}

#[test]
fn limits_are_grouped_by_owner_and_uncounted_limits_are_not_described() {
    let limits = [
        ("a-tenant", limit(CountBy::Tenant, false)),
        ("b-key", limit(CountBy::Key, false)),
        ("c-dry-run", limit(CountBy::Tenant, true)),
        ("d-tenant", limit(CountBy::Tenant, false)),
        ("e-actor", limit(CountBy::Actor, false)),
    ];
    let described = |peer| {
        let fields = charge(&limits, false, peer).fields();
        let value = |value: Option<HeaderValue>| value.unwrap().to_str().unwrap().replace([';', '"'], " ");
        (value(fields.policy), value(fields.state))
    };
    let all = described("192.0.2.1".parse().ok());
    let each =
        |names: &[&str], says: &str| names.iter().map(|name| format!(" {name} {says}")).collect::<Vec<_>>().join(", ");
    let names = ["a-tenant", "d-tenant", "b-key", "e-actor", "c-dry-run"];
    assert_eq!(all, (each(&names, " q=1 w=60"), each(&names, " r=0 t=60")));
    let names = ["a-tenant", "d-tenant", "c-dry-run"];
    assert_eq!(described(None), (each(&names, " q=1 w=60"), each(&names, " r=0 t=60")));
}

#[test]
fn upstream_fields_are_kept_replaced_or_removed_as_configured() {
    use UpstreamLimitFields::{Keep, Remove, Replace};
    let ours = ["ratelimit-policy: \"burst\";q=1;w=60", "ratelimit: \"burst\";r=0;t=60"];
    let kept = [
        r#"ratelimit-policy: "burst";q=1;w=60, "theirs";q=9;w=1"#,
        r#"ratelimit: "burst";r=0;t=60, "theirs";r=8;t=1"#,
        "x-other: kept",
        "x-ratelimit-limit: 9",
    ];
    assert_eq!(edited(&charged(false), Keep), kept);
    for upstream in [Replace, Remove] {
        assert_eq!(edited(&charged(false), upstream), [ours[0], ours[1], "x-other: kept"]);
    }
    let none = RateLimitOutcome::default();
    assert_eq!(edited(&none, Replace).len(), 4, "there are no fields of ours that could replace them");
    assert_eq!(edited(&none, Keep).len(), 4);
    assert_eq!(edited(&none, Remove), ["x-other: kept"]);
    let legacy = edited(&charged(true), Keep);
    assert!(
        legacy.contains(&"x-ratelimit-limit: 1".to_owned()) && legacy.contains(&"x-ratelimit-reset: 60".to_owned())
    );
}
