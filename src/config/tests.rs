use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::*;

const SECRET: &str = "a-secret-that-must-never-be-shown-anywhere";
const MINIMAL: &str = include_str!("../../config/minimal.yaml");
const EXAMPLE: &str = include_str!("../../config/keygate.yaml");
const SCHEMA: &str = include_str!("../../config/schema.json");

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let required =
        [("KEYGATE_CREDENTIALS_ISSUER", "https://keys.example.com"), ("KEYGATE_SECRETS_HMAC_CURRENT", SECRET)];
    required.iter().chain(pairs).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn errors(text: &str, pairs: &[(&str, &str)]) -> String {
    Config::parse("test.yaml", text, &variables(pairs)).unwrap_err().to_string()
}

#[test]
fn shipped_files_load_with_issuer_and_secret() {
    for text in [MINIMAL, EXAMPLE] {
        let config = Config::parse("shipped.yaml", text, &variables(&[])).unwrap();
        assert_eq!(config.secrets.hmac.current.expose_secret(), SECRET);
    }
    let missing = Config::parse("minimal.yaml", MINIMAL, &BTreeMap::new()).unwrap_err();
    let paths: Vec<_> = missing.0.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["credentials.issuer", "secrets.hmac.current"]);
}

#[test]
fn example_file_has_the_default_of_every_setting() {
    let settings = |value: &Config| format!("{value:#?}");
    let mut example = Config::parse("keygate.yaml", EXAMPLE, &variables(&[])).unwrap();
    example.gateway = None;
    example.external_auth = None;
    let bare = "db: { dsn: 'sqlite://./keygate.db' }";
    assert_eq!(settings(&example), settings(&Config::parse("bare.yaml", bare, &variables(&[])).unwrap()));
}

#[test]
fn example_file_lists_every_setting() {
    // The two that have no default and no usable example are comments.
    let shown = EXAMPLE.replace("# issuer:", "issuer:").replace("# current:", "current:");
    let mut missing = Vec::new();
    find_missing(&json_schema(), &serde_saphyr::from_str(&shown).unwrap(), "", &mut missing);
    assert_eq!(missing, Vec::<String>::new(), "config/keygate.yaml does not show these");
}

/// Collects the settings of a schema that a tree lacks. Of mappings by name, the first entry is checked; one entry of a list must show each setting. The settings below
/// a section that is null are shown by another section of the same type.
fn find_missing(schema: &serde_json::Value, tree: &serde_json::Value, path: &str, missing: &mut Vec<String>) {
    for (name, member) in schema::members(schema).into_iter().flatten() {
        let path = format!("{path}.{name}");
        match tree.get(name) {
            Some(value) if value.is_null() => {}
            Some(value) => find_missing(member, value, &path, missing),
            None => missing.push(path),
        }
    }
    let named = schema.get("additionalProperties").zip(tree.as_object().and_then(|entries| entries.values().next()));
    if let Some((schema, tree)) = named {
        find_missing(schema, tree, path, missing);
    }
    let Some((schema, entries)) = schema.get("items").zip(tree.as_array()) else { return };
    let of_entry = entries.iter().map(|entry| {
        let mut missing = Vec::new();
        find_missing(schema, entry, path, &mut missing);
        missing
    });
    missing.extend(
        of_entry
            .reduce(|one, other| one.into_iter().filter(|path| other.contains(path)).collect())
            .into_iter()
            .flatten(),
    );
}

#[test]
fn schema_file_is_up_to_date() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    assert_eq!(schema, json_schema(), "run `keygate config schema > config/schema.json`");
}

#[test]
fn all_errors_are_listed_with_their_paths() {
    let text = "
serve: { http: { port: http, hosst: x } }
secrets: { hmac: { retired: [{ value: 1 }] } }
db: { dsn: 7 }
cache: { ttl: 5 minutes, memory: { max_size: 1 } }
nonsense: 1
gateway: { routes: [{ name: a, upstream: b, auth: maybe }] }
";
    insta::assert_snapshot!(Config::parse("test.yaml", text, &BTreeMap::new()).unwrap_err());
}

#[test]
fn violated_rules_across_fields_are_listed_with_their_paths() {
    let text = "
serve: { http: { host: 0.0.0.0, auth: { mode: none }, cors: { enabled: true } }, metrics: { host: here } }
credentials: { clock_skew: 601s, api_keys: { prefix: { retired: [mc] } }, issuer_retired: [{ value: x, expires_at: soon }] }
secrets: { hmac: { retired: [short] } }
db: { dsn: 'cockroach://localhost/keygate' }
cache: { type: redis, max_staleness: 1s, redis: { timeout: 0s } }
retention: { expired_keys: 23h }
audit: { retention: 1h, output: ' ' }
usage: { retention: 1h, flush_interval: 0s }
tracing: { enabled: true }
multitenancy: { enabled: true }
gateway:
  address: localhost
  routes:
    - { name: a, upstream: a, path_prefix: /x/../y }
    - { name: a, upstream: b, hosts: ['api.example.com:80'], methods: [get] }
    - { name: c, upstream: a, auth: none, scopes: [read], path_prefix: /same }
    - { name: d, upstream: a, path_prefix: /SAME/, limits: [nope] }
  upstreams:
    a: { endpoints: ['http://127.0.0.1:9000/path', 'ftp://x', 'http://user@host'] }
  limits: { default: { quota: 1, window: 10ms }, 'a b': { quota: 1, window: 1s } }
  tenant_limits: [gone]
";
    insta::assert_snapshot!(errors(text, &[]));
}

#[test]
fn errors_and_debug_texts_show_no_value() {
    let text = format!(
        "secrets: {{ hmac: {{ current: [{SECRET}], retired: [{{ value: {SECRET}, expires_at: {SECRET} }}] }} }}\n{SECRET}: 1\ndb: {SECRET}"
    );
    let shown = errors(&text, &[("KEYGATE_SERVE_HTTP_PORT", SECRET)]).replace(&format!("{SECRET}: is not"), "");
    assert!(!shown.contains(SECRET), "{shown}");
    let broken = errors(&format!("a: [{SECRET}"), &[]);
    assert!(broken.contains("line") && !broken.contains(SECRET), "{broken}");
    let config = Config::parse("test.yaml", MINIMAL, &variables(&[("KEYGATE_SECRETS_HMAC_RETIRED", SECRET)])).unwrap();
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn variables_override_the_file() {
    let config = Config::parse(
        "test.yaml",
        "db: { dsn: 'sqlite://file.db' }\nserve: { http: { port: 1 } }",
        &variables(&[
            ("TALOS_DB_DSN", "sqlite://talos.db"),
            ("TALOS_SERVE_HTTP_PORT", "2"),
            ("KEYGATE_SERVE_HTTP_PORT", "3"),
            ("KEYGATE_CACHE_ENABLED", "false"),
            ("KEYGATE_TRACING_SAMPLE_RATE", "0.5"),
            ("KEYGATE_CREDENTIALS_API_KEYS_PREFIX_RETIRED", "a, b"),
            ("KEYGATE_SECRETS_HMAC_RETIRED_0", SECRET),
            ("KEYGATE_ENDPOINT", "http://elsewhere"),
            ("TALOS_NOT_OURS", "x"),
            ("DB_DSN", "sqlite://bare.db"),
        ]),
    )
    .unwrap();
    assert_eq!(config.db.dsn, "sqlite://talos.db");
    assert_eq!(config.serve.http.port, 3);
    assert!(!config.cache.is_on());
    assert!((config.tracing.sample_rate - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.credentials.api_keys.prefix.retired, ["a", "b"]);
    assert_eq!(config.secrets.hmac.retired.len(), 1);
}

#[test]
fn a_variable_of_the_wrong_type_is_an_error() {
    let text =
        errors("", &[("KEYGATE_DB_DNS", "x"), ("KEYGATE_SERVE_HTTP_PORT", "many"), ("KEYGATE_DB_DSN", "sqlite://x")]);
    insta::assert_snapshot!(text);
}

#[test]
fn type_errors_are_listed_with_their_paths() {
    for (settings, path) in [
        ("cache: { ttl: 99999999999999999999h }", "cache.ttl: is not a duration"),
        ("cache: { redis: { min_idle_conns: 4294967296 } }", "cache.redis.min_idle_conns: must be 4294967295 or less"),
        ("serve: { http: { cors: { max_age: 5e9 } } }", "serve.http.cors.max_age: must be 4294967295 or less"),
        ("gateway: { routes: [{ nam: a }] }", "gateway.routes.0.nam: is not a setting; did you mean name?"),
        ("gateway: { routes: [{ nam: a }] }", "gateway.routes.0.name: is required"),
        ("gateway: { routes: [{ name: a }] }", "gateway.routes.0.upstream: is required: the name of an entry"),
        ("external_auth: {}", "external_auth: needs the section gateway"),
        ("external_auth: { address: '127.0.0.1:0' }", "external_auth.address: must name a port"),
        ("gateway: { upstreams: { a/b: { endpoints: [] } } }", "gateway.upstreams.a/b.endpoints: must have at least"),
        ("gateway: { address: '127.0.0.1:0' }", "gateway.address: must name a port"),
        ("gateway: { listeners: [{ address: '127.0.0.1:0' }] }", "gateway.listeners.0.address: must name a port"),
        ("log: { level: DEBUG }", "log.level: must be debug, info, warn or error"),
        ("tracing: { exporter: zipkin }", "tracing.exporter: must be otlp"),
        ("serve:", "serve: must be a mapping; remove the name"),
        ("retention:", "retention: must be a mapping of "),
        (
            "credentials: { api_keys: { prefix: { current: 12345 } } }",
            "prefix.current: must be a text; put it in quotes",
        ),
    ] {
        let text = errors(&format!("db: {{ dsn: ':memory:' }}\n{settings}"), &[]);
        assert!(text.contains(path) && !text.contains("test.yaml"), "{settings}: {text}");
    }
}

#[test]
fn rules_across_settings_are_checked_around_values_of_the_wrong_type() {
    let rule = "gateway.routes.1.upstream: names no entry of gateway.upstreams";
    for wrong in [
        "gateway.routes.0.name: must be a text",
        "gateway.routes.0.path_prefix: must be a text",
        "gateway.routes.0.scopes: must be a list",
        "gateway.routes.0.scopes.1: must be a text",
        "gateway.routes.0: must be a mapping",
        "gateway.listeners.0.address: must be a text",
        "gateway.listeners.0.limits.head_bytes: must be a whole number",
        "gateway.upstreams.a: must be a mapping",
        "gateway.upstreams.a.endpoints: must be a list",
        "gateway.upstreams.a.endpoints.0: must be",
        "gateway.limits.few: must be a mapping",
        "gateway.limits.few.quota: must be a whole number",
        "gateway.tenant_limits.0: must be a text",
        "credentials.issuer_retired.0: must be",
        "secrets.hmac.retired.0: must be a text",
        "cache.redis.addrs.0: must be a text",
    ] {
        let mut tree: serde_json::Value = serde_saphyr::from_str(
            "
credentials: { issuer: 'https://keys.example.com', issuer_retired: [{ value: x, expires_at: '2030-01-01T00:00:00Z' }] }
secrets: { hmac: { current: a secret of at least 32 characters, retired: [{ value: another secret of at least 32 characters, expires_at: '2030-01-01T00:00:00Z' }] } }
db: { dsn: 'sqlite://x' }
cache: { redis: { addrs: ['localhost:6379'] } }
gateway:
  listeners: [{ address: '127.0.0.1:8080', limits: { head_bytes: 32768 } }]
  routes:
    - { name: a, path_prefix: /a, upstream: a, scopes: [one, two] }
    - { name: b, upstream: b }
  upstreams: { a: { endpoints: ['http://127.0.0.1:9000'] } }
  limits: { few: { quota: 1, window: 1s } }
  tenant_limits: [few]
",
        )
        .unwrap();
        let path = wrong.split(':').next().unwrap();
        *tree.pointer_mut(&format!("/{}", path.replace('.', "/"))).unwrap() = true.into();
        let errors = Config::parse("test.yaml", &tree.to_string(), &BTreeMap::new()).unwrap_err().to_string();
        assert!(errors.contains(wrong) && errors.contains(rule), "{wrong}: {errors}");
        assert_eq!(errors.lines().count(), 3, "{wrong}: {errors}");
    }
}

#[test]
fn integers_may_be_written_as_floats() {
    let text = "db: { dsn: ':memory:' }\nserve: { http: { port: 80.0 } }\ntracing: { sample_rate: 1 }";
    let config = Config::parse("test.yaml", text, &variables(&[])).unwrap();
    assert_eq!(config.serve.http.port, 80);
    assert!((config.tracing.sample_rate - 1.0).abs() < f64::EPSILON);
}

#[test]
fn schema_and_types_accept_the_same_durations() {
    for text in ["1h30m", "1.5h", ".5s", "1.s", "0s", "5µs", "5μs", "", "1", "s", ".s", "1d", "-1s", "1 s", "1..s"] {
        let valid = crate::duration::parse_go(text).is_ok();
        let file = format!("db: {{ dsn: ':memory:' }}\ncache: {{ ttl: '{text}' }}");
        assert_eq!(Config::parse("test.yaml", &file, &variables(&[])).is_ok(), valid, "{text}");
    }
}

#[test]
fn an_invalid_file_is_the_only_error() {
    for (text, message) in [
        ("db: {", "is not valid YAML at line"),
        ("db: { dsn: a, dsn: b }", "has a duplicate name in one mapping at line 1"),
        ("a: 1\n---\nb: 1\n", "has a second document; only one is allowed, at line"),
        ("- db", "must contain a mapping of settings"),
    ] {
        let shown = errors(text, &[]);
        assert!(shown.starts_with(&format!("the configuration has 1 error:\n  test.yaml: {message}")), "{shown}");
    }
    let missing = Config::load(std::path::Path::new("/nowhere/keygate.yaml"), &variables(&[])).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/keygate.yaml: cannot be read"), "{missing}");
}

#[test]
fn duplicates_and_unusable_limits_are_rejected() {
    let text = "
db: { dsn: ':memory:' }
credentials: { clock_skew: 600.5s }
serve: { http: { cors: { allowed_origins: ['http://a', 'http://b', 'http://a'] } } }
gateway:
  routes:
    - name: a
      upstream: a
      hosts: [api.example.com, API.example.com.]
      methods: [GET, GET]
      scopes: [read, write, read]
  upstreams:
    a: { endpoints: ['http://h:99999'], connect_timeout: 0s, read_timeout: 0ms }
";
    insta::assert_snapshot!(errors(text, &[]));
}

#[test]
fn required_settings_are_checked_without_a_file() {
    let errors = Config::new(String::new(), String::new().into(), String::new()).validate().unwrap_err();
    let paths: Vec<_> = errors.0.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["credentials.issuer", "db.dsn", "secrets.hmac.current"]);
    Config::new("x".into(), SECRET.to_owned().into(), ":memory:".into()).validate().unwrap();
}

#[test]
fn debug_texts_show_no_signing_key_and_no_password() {
    let mut config =
        Config::new("x".into(), SECRET.to_owned().into(), format!("postgres://keygate:{SECRET}@db/keygate"));
    config.credentials.derived_tokens.jwt.signing_keys.urls =
        vec![format!("base64://{SECRET}"), format!("https://a:{SECRET}@b"), SECRET.to_owned()];
    config.cache.redis.password = Some(SECRET.to_owned().into());
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && shown.contains("base64://[REDACTED]"), "{shown}");
}

fn dsn(dsn: &str) -> Result<String, &'static str> {
    Dsn::parse(dsn).map(|dsn| match dsn {
        Dsn::Sqlite { path, max_connections } => format!("{path:?} {max_connections}"),
        Dsn::Postgres(postgres) => format!(
            "{} {:?} {} {:?} {:?} {:?} {:?} {:?}",
            postgres.url.expose_secret(),
            postgres.max_connections,
            postgres.min_connections,
            postgres.max_lifetime,
            postgres.idle_timeout,
            postgres.connect_timeout,
            postgres.acquire_timeout,
            postgres.statement_timeout
        ),
    })
}

#[test]
fn sqlite_dsns_are_parsed() {
    for (name, expected) in [
        ("sqlite://./a.db", r#"Some("./a.db") 8"#),
        ("sqlite3:///var/a.db?max_conns=3", r#"Some("/var/a.db") 3"#),
        (":memory:", "None 1"),
        ("sqlite://a?max_conn_lifetime=1h&pool_max_conns=2&max_idle_conns=1", r#"Some("a") 2"#),
    ] {
        assert_eq!(dsn(name).as_deref(), Ok(expected), "{name}");
    }
    for name in [
        "a.db",
        "sqlite://",
        "sqlite://a?max_conns=0",
        "sqlite://a?max_conn_lifetime=1",
        "sqlite://a?max_idle_conns=x",
        "sqlite://a?mode=ro",
        "mysql://x",
        "cockroach://x",
        "redis://x",
    ] {
        assert!(dsn(name).is_err(), "{name}");
    }
}

#[test]
fn postgres_dsns_are_parsed() {
    for (name, expected) in [
        ("postgres://u:p@h:5433/d", "postgres://u:p@h:5433/d None 0 1800s 600s 10s 2s 5s"),
        (
            "postgresql://h/d?sslmode=require&max_conns=3&pool_min_conns=1&sslrootcert=/ca.pem&max_idle_conns=2",
            "postgresql://h/d?sslmode=require&sslrootcert=/ca.pem Some(3) 1 1800s 600s 10s 2s 5s",
        ),
        (
            "postgres://h/d?pool_max_conn_lifetime=1h&max_conn_idle_time=0s&connect_timeout=1s&acquire_timeout=250ms&statement_timeout=1m",
            "postgres://h/d None 0 3600s 0ns 1s 250ms 60s",
        ),
    ] {
        assert_eq!(dsn(name).as_deref(), Ok(expected), "{name}");
    }
    for name in [
        "postgres://h/d?max_conns=0",
        "postgres://h/d?max_conns",
        "postgres://h/d?statement_timeout=0s",
        "postgres://h/d?statement_timeout=5",
        "postgres://h/d?sslmod=require",
        "postgres://u:p#w@h/d",
    ] {
        assert!(dsn(name).is_err(), "{name}");
    }
}

#[test]
fn debug_text_of_a_dsn_shows_no_password() {
    let parsed = Dsn::parse(&format!("postgres://keygate:{SECRET}@db/keygate?password={SECRET}")).unwrap();
    assert!(!format!("{parsed:?}").contains(SECRET));
}
