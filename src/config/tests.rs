use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::*;

const SECRET: &str = "a-secret-that-must-never-be-shown-anywhere";
const MINIMAL: &str = include_str!("../../config/minimal.yaml");
const WHOLE: &str = include_str!("../../config/keygate.yaml");
const SCHEMA: &str = include_str!("../../config/schema.json");

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let given = [("KEYGATE_CREDENTIALS_ISSUER", "https://keys.example.com"), ("KEYGATE_SECRETS_HMAC_CURRENT", SECRET)];
    given.iter().chain(pairs).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn errors(text: &str, pairs: &[(&str, &str)]) -> String {
    Config::parse("test.yaml", text, &variables(pairs)).unwrap_err().to_string()
}

#[test]
fn the_shipped_files_load_when_issuer_and_secret_are_given() {
    for text in [MINIMAL, WHOLE] {
        let config = Config::parse("shipped.yaml", text, &variables(&[])).unwrap();
        assert_eq!(config.secrets.hmac.current.expose_secret(), SECRET);
    }
    let missing = Config::parse("minimal.yaml", MINIMAL, &BTreeMap::new()).unwrap_err();
    let paths: Vec<_> = missing.0.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["credentials.issuer", "secrets.hmac.current"]);
}

#[test]
fn the_whole_file_shows_every_setting_with_its_default() {
    let settings = |value: &Config| format!("{value:#?}");
    let mut whole = Config::parse("keygate.yaml", WHOLE, &variables(&[])).unwrap();
    whole.gateway = None;
    let bare = "db: { dsn: 'sqlite://./keygate.db' }";
    assert_eq!(settings(&whole), settings(&Config::parse("bare.yaml", bare, &variables(&[])).unwrap()));
    let mut names = Vec::new();
    leaf_names(&json_schema(), &mut names);
    for name in names {
        assert!(WHOLE.contains(&format!("{name}:")), "config/keygate.yaml does not show {name}");
    }
}

fn leaf_names(schema: &serde_json::Value, names: &mut Vec<String>) {
    for (name, member) in schema::members(schema).into_iter().flatten() {
        names.push(name.clone());
        leaf_names(member, names);
    }
}

#[test]
fn the_schema_file_is_not_stale() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    assert_eq!(schema, json_schema(), "run `keygate config schema > config/schema.json`");
}

#[test]
fn everything_wrong_is_listed_with_its_path() {
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
fn rules_across_fields_are_listed_with_their_paths() {
    let text = "
serve: { http: { host: 0.0.0.0, cors: { enabled: true } }, metrics: { host: here } }
credentials: { clock_skew: 601s, api_keys: { prefix: { retired: [mc] } }, issuer_retired: [{ value: x, expires_at: soon }] }
secrets: { hmac: { retired: [short] } }
db: { dsn: 'postgres://localhost/keygate' }
cache: { type: redis }
rate_limit: { enabled: true }
tracing: { enabled: true }
multitenancy: { enabled: true }
gateway:
  address: localhost
  routes:
    - { name: a, upstream: a, path_prefix: /x/../y }
    - { name: a, upstream: b, hosts: ['api.example.com:80'], methods: [get] }
    - { name: c, upstream: a, auth: none, scopes: [read], path_prefix: /same }
    - { name: d, upstream: a, path_prefix: /SAME/ }
  upstreams:
    a: { endpoints: ['http://127.0.0.1:9000/path', 'ftp://x', 'http://user@host'] }
";
    insta::assert_snapshot!(errors(text, &[]));
}

#[test]
fn no_error_and_no_debug_text_shows_a_value() {
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
fn variables_are_laid_over_the_file() {
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
fn a_variable_that_names_nothing_or_has_the_wrong_type_is_an_error() {
    let text =
        errors("", &[("KEYGATE_DB_DNS", "x"), ("KEYGATE_SERVE_HTTP_PORT", "many"), ("KEYGATE_DB_DSN", "sqlite://x")]);
    insta::assert_snapshot!(text);
}

#[test]
fn data_source_names() {
    let parse = |dsn: &str| DatabaseConfig { dsn: dsn.into() }.parse();
    let sqlite = |path: &str, max_connections| Ok(Dsn::Sqlite { path: Some(path.into()), max_connections });
    assert_eq!(parse("sqlite://./a.db"), sqlite("./a.db", 8));
    assert_eq!(parse("sqlite3:///var/a.db?max_conns=3"), sqlite("/var/a.db", 3));
    assert_eq!(parse(":memory:"), Ok(Dsn::Sqlite { path: None, max_connections: 1 }));
    for dsn in ["a.db", "sqlite://", "sqlite://a?max_conns=0", "sqlite://a?mode=ro", "mysql://x", "redis://x"] {
        assert!(parse(dsn).is_err(), "{dsn}");
    }
}
