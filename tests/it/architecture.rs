//! The layers of the library: a module imports only from lower layers, and no folder has a circle of files. Within one crate, only
//! these tests enforce that.

mod circles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each module and the modules it may import.
const MODULES: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("id", &[]),
    ("duration", &[]),
    ("cidr", &[]),
    ("connection", &[]),
    ("sharded", &[]),
    ("free_list", &[]),
    ("strict_json", &[]),
    ("secret_file", &[]),
    ("request_context", &["id"]),
    ("policy", &["cidr", "duration"]),
    ("credential", &["cidr", "clock", "id", "policy", "strict_json"]),
    ("key", &["cidr", "clock", "id", "policy", "credential", "sharded"]),
    ("audit", &["clock", "credential", "id", "key", "policy", "request_context"]),
    ("config", &["cidr", "clock", "credential", "duration", "id", "policy"]),
    ("telemetry", &["config"]),
    ("traces", &[]),
    ("store", &["audit", "cidr", "clock", "id", "key", "policy", "request_context", "secret_file"]),
    ("tls", &[]),
    ("listener", &["cidr", "clock", "config", "connection", "tls"]),
    ("redis", &["config", "tls"]),
    ("cache", &["cidr", "clock", "id", "key", "policy", "redis", "sharded"]),
    ("cache_sync", &["cache", "clock", "store"]),
    ("last_used", &["clock", "id", "key", "request_context", "store"]),
    ("audit_log", &["audit", "clock", "id", "request_context", "store"]),
    ("usage", &["clock", "id", "request_context", "store"]),
    ("signing_keys", &["credential"]),
    ("ratelimit", &["cidr", "clock", "config", "id", "policy", "redis", "sharded"]),
    ("verifier", &["cache", "clock", "config", "credential", "id", "key", "policy", "ratelimit", "store", "last_used"]),
    (
        "lifecycle",
        &[
            "audit",
            "cache",
            "cidr",
            "clock",
            "config",
            "credential",
            "duration",
            "id",
            "key",
            "policy",
            "request_context",
            "store",
        ],
    ),
    ("wire", &["cidr", "config", "connection", "credential", "id", "lifecycle", "policy", "ratelimit", "verifier"]),
    (
        "pipeline",
        &[
            "cache",
            "cidr",
            "clock",
            "config",
            "connection",
            "id",
            "key",
            "policy",
            "ratelimit",
            "telemetry",
            "traces",
            "usage",
            "verifier",
            "wire",
        ],
    ),
    (
        "engine",
        &[
            "audit_log",
            "cache",
            "cache_sync",
            "clock",
            "config",
            "credential",
            "duration",
            "last_used",
            "lifecycle",
            "pipeline",
            "ratelimit",
            "redis",
            "request_context",
            "signing_keys",
            "store",
            "telemetry",
            "tls",
            "traces",
            "usage",
            "verifier",
        ],
    ),
    (
        "gateway",
        &["cidr", "config", "connection", "duration", "free_list", "id", "listener", "pipeline", "tls", "wire"],
    ),
    ("external_auth", &["cidr", "config", "id", "listener", "pipeline", "verifier", "wire"]),
    (
        "admin",
        &[
            "audit",
            "audit_log",
            "cidr",
            "clock",
            "config",
            "connection",
            "credential",
            "duration",
            "id",
            "key",
            "lifecycle",
            "listener",
            "pipeline",
            "policy",
            "ratelimit",
            "request_context",
            "store",
            "strict_json",
            "traces",
            "verifier",
            "wire",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "audit",
            "audit_log",
            "cidr",
            "clock",
            "config",
            "duration",
            "engine",
            "external_auth",
            "gateway",
            "id",
            "key",
            "lifecycle",
            "listener",
            "pipeline",
            "policy",
            "request_context",
            "secret_file",
            "store",
            "telemetry",
        ],
    ),
    ("layer", &["config", "credential", "engine", "free_list", "id", "key", "pipeline", "policy", "verifier", "wire"]),
    (
        "testing",
        &[
            "cidr",
            "clock",
            "config",
            "credential",
            "engine",
            "id",
            "key",
            "layer",
            "policy",
            "request_context",
            "store",
            "verifier",
        ],
    ),
    ("cli", &["app", "config", "duration", "telemetry", "tls"]),
    ("main", &["cli"]),
];

/// Crates that only some modules may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("pingora", &["gateway", "app"]),
    ("axum", &["admin", "external_auth"]),
    ("askama", &["admin"]),
    ("tonic", &["external_auth", "traces"]),
    ("opentelemetry_proto", &["traces"]),
    ("envoy_types", &["external_auth"]),
    ("sqlx", &["store"]),
    ("tokio_rustls", &["listener"]),
    ("x509_cert", &["listener"]),
    ("redis", &["redis", "cache", "ratelimit", "engine"]),
    ("reqwest", &["signing_keys", "cli", "traces"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli", "main"]),
];

/// Names that the pure modules never contain.
const IMPURE: &[&str] = &[
    "tokio",
    "sqlx",
    "redis",
    "axum",
    "pingora",
    "reqwest",
    "std::fs",
    "std::net::Tcp",
    "SystemTime::now",
    "Utc::now",
];
const PURE: &[&str] = &[
    "id",
    "duration",
    "cidr",
    "connection",
    "sharded",
    "free_list",
    "strict_json",
    "request_context",
    "policy",
    "credential",
    "key",
];

/// Crates that the pipeline never names, so that every front can call it.
const SERVERS: &[&str] = &["pingora", "axum", "hyper", "tower", "tonic"];

#[derive(Debug, PartialEq)]
struct Violation {
    line: usize,
    text: String,
}

/// The imports of a source that break the tables.
fn violations(module: &str, source: &str) -> Vec<Violation> {
    let allowed = MODULES.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
    let mut found = Vec::new();
    let mut report = |line, text: String| found.push(Violation { line, text });
    let Some(allowed) = allowed else {
        report(1, format!("the module {module} is not in the table of layers"));
        return found;
    };
    for (number, line) in code_lines(source) {
        for name in crate_names(&line) {
            if name != module && !allowed.contains(&name.as_str()) {
                report(number, format!("{module} must not import {name}"));
            }
        }
        for (reserved, users) in RESERVED {
            if names(&line, reserved) && !users.contains(&module) {
                report(number, format!("{module} must not name {reserved}"));
            }
        }
        for impure in IMPURE.iter().filter(|impure| PURE.contains(&module) && names(&line, impure)) {
            report(number, format!("{module} is pure and must not name {impure}"));
        }
        for server in SERVERS.iter().filter(|server| module == "pipeline" && names(&line, server)) {
            report(number, format!("the pipeline must not name {server}"));
        }
    }
    found
}

/// Statements of production code without comments, each on one line, with the number of its first line.
fn code_lines(source: &str) -> Vec<(usize, String)> {
    let mut statements: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in source.lines().enumerate() {
        let without_texts = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
        let code = without_texts.split("//").next().unwrap_or_default().trim();
        if code.starts_with("#[cfg(test)]")
            && source.lines().nth(index + 1).is_some_and(|next| next.starts_with("mod "))
        {
            break;
        }
        match statements.last_mut() {
            Some((_, statement)) if open => statement.push_str(code),
            _ => statements.push((index + 1, code.to_owned())),
        }
        let is_use = statements.last().is_some_and(|(_, text)| text.contains("use "));
        open = is_use && !code.ends_with(';');
    }
    statements
}

/// The modules in `crate::name`, `crate::{a, b::c}` and `keygate::name`.
fn crate_names(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in ["crate::", "keygate::"].iter().flat_map(|root| line.split(root).skip(1)) {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(character),
                    _ => {}
                }
            }
            names.push(name);
        } else {
            names.push(rest.to_owned());
        }
    }
    let first =
        |name: &String| name.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    names.iter().map(first).filter(|name| !name.is_empty()).collect()
}

fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        let inside_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        let path_like =
            name.contains("::") || line[at + name.len()..].starts_with("::") || line.contains(&format!("use {name}"));
        !inside_word(before) && (name.ends_with("Tcp") || !inside_word(after)) && path_like
    })
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The production sources by their path below `src`.
fn production_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "only {} sources were read", files.len());
    let relative = files.iter().map(|file| (file.strip_prefix(&root).unwrap().to_owned(), file));
    let production = relative.filter(|(path, _)| {
        let is_test_file =
            ["tests.rs", "testing.rs", "test_servers.rs", "model.rs"].iter().any(|name| path.ends_with(name));
        let is_public = path.as_os_str() == "testing.rs";
        (is_public || !is_test_file) && !path.iter().any(|folder| folder == "tests" || folder == "contract")
    });
    production.map(|(path, file)| (path, std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn every_import_points_to_a_lower_layer() {
    let mut all = BTreeMap::new();
    for (path, source) in production_sources() {
        let module = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        for violation in violations(&module, &source) {
            all.insert((path.clone(), violation.line), violation.text);
        }
    }
    let text: Vec<_> =
        all.iter().map(|((file, line), text)| format!("src/{}:{line}: {text}", file.display())).collect();
    assert!(text.is_empty(), "\n{}", text.join("\n"));
}

#[test]
fn no_folder_has_a_circle_of_files() {
    let mut sources = circles::Sources::default();
    for (path, source) in production_sources() {
        let code: Vec<_> = code_lines(&source).into_iter().map(|(_, line)| line).collect();
        let path = path.with_extension("");
        let segments = path.iter().map(|segment| segment.to_str().unwrap());
        let module: Vec<_> = segments.filter(|segment| !matches!(*segment, "mod" | "lib")).collect();
        sources.add(&module, &code.join("\n"));
    }
    let circles: Vec<_> = sources.circles().iter().map(|circle| format!("{circle:?}")).collect();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn forbidden_import_is_reported_with_its_line() {
    for (module, source, line) in [
        ("verifier", "use std::fmt;\nuse crate::lifecycle::Lifecycle;\n", 2),
        ("gateway", "use crate::{\n    config::Config,\n    admin::{self, Router},\n};\n", 1),
        ("key", "fn f() { crate::store::connect() }\n", 1),
        ("admin", "use pingora::proxy::Session;\n", 1),
        ("policy", "async fn f() { tokio::spawn(g()) }\n", 1),
        ("credential", "use std::net::TcpStream;\n", 1),
        ("verifier", "let pool = sqlx::query(x);\n", 1),
        ("brand_new", "fn f() {}\n", 1),
        ("pipeline", "fn f(request: hyper::Request<()>) {}\n", 1),
    ] {
        let found = violations(module, source);
        assert_eq!(found.first().map(|violation| violation.line), Some(line), "{module}: {source}");
    }
}

#[test]
fn allowed_imports_comments_and_tests_are_not_reported() {
    for (module, source) in [
        ("verifier", "// crate::lifecycle is forbidden\nuse crate::store::KeyStore;\n"),
        ("admin", "use axum::Router; // crate::gateway is forbidden\n"),
        ("key", "use crate::id::KeyId;\n#[cfg(test)]\nmod tests {\n    use crate::store::MemoryStore;\n}\n"),
        ("config", "/// Where axum::Router listens.\nlet text = \"redis\";\n"),
    ] {
        assert_eq!(violations(module, source), [], "{module}: {source}");
    }
}
