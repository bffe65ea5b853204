//! Which settings take effect at a restart only, because they describe sockets, threads, connections to other servers, or the size of what
//! is in memory.

use super::cache::{CacheConfig, RedisConfig};
use super::gateway::GatewayConfig;
use super::listener::{ListenerConfig, TlsConfig};
use super::root::Config;
use super::serve::{MetricsConfig, PublicConfig};
use super::source::LoadedConfig;

/// The paths of these settings. `*` stands for any name or index; a path includes all settings below it.
const RESTART: [&str; 33] = [
    "serve.http.host",
    "serve.http.port",
    "serve.http.socket",
    "serve.http.tls",
    "serve.http.shutdown_grace",
    "serve.metrics",
    "serve.public",
    "serve.shutdown_delay",
    "serve.shutdown_idle_timeout",
    "db",
    "cache.type",
    "cache.enabled",
    "cache.memory",
    "cache.redis",
    "rate_limit.enabled",
    "rate_limit.backend",
    "rate_limit.mode",
    "last_used",
    "retention",
    "audit",
    "usage",
    "tracing",
    "credentials.derived_tokens.jwt.signing_keys",
    "gateway.enabled",
    "gateway.address",
    "gateway.listeners.*.address",
    "gateway.listeners.*.tls",
    "gateway.connections",
    "gateway.threads",
    "gateway.fast_path",
    "gateway.shutdown_grace",
    "gateway.unknown_keys",
    "external_auth.*",
];

impl LoadedConfig {
    /// The paths of the settings that differ from `started`, with which the process was started, and take effect at a restart only.
    pub fn restart_settings(&self, started: &Self) -> Vec<String> {
        let (now, before) = (&self.config, &started.config);
        let waits = |path: &String| {
            needs_restart(path)
                || (is_tls(path) && !keeps_tls(path, now, before))
                || (path == CACHE_TTL && before.cache.ttl.0.is_zero())
        };
        let settings = self.changed_settings(started).into_iter().filter(waits);
        // A section that appears or disappears starts or stops a listener.
        let sections = [
            ("gateway", now.gateway.is_some() != before.gateway.is_some()),
            ("external_auth", now.external_auth.is_some() != before.external_auth.is_some()),
        ];
        let sections = sections.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name.to_owned());
        sections.chain(settings).collect()
    }
}

impl Config {
    /// This configuration with the settings of `running` where a change takes effect at a restart only.
    #[must_use]
    pub fn with_running(mut self, running: &Self) -> Self {
        let (http, running_http) = (&mut self.serve.http, &running.serve.http);
        http.host.clone_from(&running_http.host);
        http.port = running_http.port;
        http.socket.clone_from(&running_http.socket);
        http.tls = running_tls(http.tls.take(), running_http.tls.as_ref());
        http.shutdown_grace = running_http.shutdown_grace;
        let tls = running_tls(self.serve.metrics.tls.take(), running.serve.metrics.tls.as_ref());
        self.serve.metrics = MetricsConfig { tls, ..running.serve.metrics.clone() };
        let tls = self.serve.public.take().and_then(|public| public.tls);
        self.serve.public = running.serve.public.clone().map(|public| {
            let tls = running_tls(tls, public.tls.as_ref());
            PublicConfig { tls, ..public }
        });
        self.serve.shutdown_delay = running.serve.shutdown_delay;
        self.serve.shutdown_idle_timeout = running.serve.shutdown_idle_timeout;
        self.db.clone_from(&running.db);
        self.cache.keep_running(&running.cache);
        self.rate_limit.enabled = running.rate_limit.enabled;
        self.rate_limit.backend = running.rate_limit.backend;
        self.rate_limit.mode = running.rate_limit.mode;
        self.last_used.clone_from(&running.last_used);
        self.retention.clone_from(&running.retention);
        self.audit.clone_from(&running.audit);
        self.usage.clone_from(&running.usage);
        self.tracing.clone_from(&running.tracing);
        let signing_keys = &running.credentials.derived_tokens.jwt.signing_keys;
        self.credentials.derived_tokens.jwt.signing_keys.clone_from(signing_keys);
        match (&mut self.gateway, &running.gateway) {
            (Some(gateway), Some(running)) => gateway.keep_running(running),
            (gateway, running) => gateway.clone_from(running),
        }
        match (&mut self.external_auth, &running.external_auth) {
            (Some(external_auth), Some(running)) => {
                let trusted_peers = std::mem::take(&mut external_auth.trusted_peers);
                external_auth.clone_from(running);
                external_auth.trusted_peers = trusted_peers;
            }
            (external_auth, running) => external_auth.clone_from(running),
        }
        self
    }
}

impl CacheConfig {
    /// All times but those that have no effect can change. A process that was started without a cache gets none.
    fn keep_running(&mut self, running: &Self) {
        self.r#type = running.r#type;
        self.enabled = running.enabled;
        if running.ttl.0.is_zero() {
            self.ttl = running.ttl;
        }
        self.memory.clone_from(&running.memory);
        self.redis = RedisConfig { timeout: self.redis.timeout, ..running.redis.clone() };
    }
}

impl GatewayConfig {
    fn keep_running(&mut self, running: &Self) {
        self.enabled = running.enabled;
        self.address.clone_from(&running.address);
        self.listeners = running.listeners.iter().map(|listener| kept(listener, &self.listeners)).collect();
        self.connections = running.connections;
        self.threads = running.threads;
        self.fast_path = running.fast_path;
        self.shutdown_grace = running.shutdown_grace;
        self.unknown_keys = running.unknown_keys;
    }
}

/// TLS of a running listener with other settings. A listener in clear text stays one, and one with TLS, too.
fn running_tls(new: Option<TlsConfig>, running: Option<&TlsConfig>) -> Option<TlsConfig> {
    running.map(|running| new.unwrap_or_else(|| running.clone()))
}

/// The setting whose value of zero is that there is no cache.
const CACHE_TTL: &str = "cache.ttl";

/// The sections of the TLS of listeners. It is reloaded where there is TLS before and after the change.
const TLS: [&str; 4] = ["serve.http.tls", "serve.metrics.tls", "serve.public.tls", "gateway.listeners.*.tls"];

/// Whether a path is about the TLS of a listener.
fn is_tls(path: &str) -> bool {
    TLS.iter().any(|section| covers(section, path))
}

/// Whether the listener whose TLS a path is about has TLS before and after the change.
fn keeps_tls(path: &str, now: &Config, before: &Config) -> bool {
    let has_tls = |config: &Config| {
        let tls = if covers(TLS[0], path) {
            config.serve.http.tls.as_ref()
        } else if covers(TLS[1], path) {
            config.serve.metrics.tls.as_ref()
        } else if covers(TLS[2], path) {
            config.serve.public.as_ref().and_then(|public| public.tls.as_ref())
        } else {
            let index = path.split('.').nth(2).and_then(|index| index.parse::<usize>().ok());
            let listener = config.gateway.as_ref().zip(index).and_then(|(gateway, index)| gateway.listeners.get(index));
            listener.and_then(|listener| listener.tls.as_ref())
        };
        tls.is_some()
    };
    has_tls(now) && has_tls(before)
}

/// A running listener with the settings of that in `listeners` with the same address.
fn kept(running: &ListenerConfig, listeners: &[ListenerConfig]) -> ListenerConfig {
    match listeners.iter().find(|listener| listener.address == running.address) {
        Some(listener) => {
            ListenerConfig { tls: running_tls(listener.tls.clone(), running.tls.as_ref()), ..listener.clone() }
        }
        None => running.clone(),
    }
}

/// Whether a change of a setting takes effect at a restart only, if no section appears or disappears. Items of lists have their index in the path, such as `gateway.listeners.0.tls`.
pub(crate) fn needs_restart(path: &str) -> bool {
    let is_reloaded = path.starts_with("external_auth.trusted_peers") || path == "cache.redis.timeout" || is_tls(path);
    // A list of another length has no indexes in common.
    let is_list_of_sockets = path == "gateway.listeners";
    !is_reloaded && (is_list_of_sockets || RESTART.iter().any(|rule| covers(rule, path)))
}

/// Whether a rule is about a setting.
fn covers(rule: &str, path: &str) -> bool {
    let mut names = path.split('.');
    rule.split('.').all(|rule| names.next().is_some_and(|name| rule == "*" || rule == name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::cache::OnDatabaseDown;
    use super::super::place::ConfigPlace;
    use super::*;

    const MINIMAL: &str = "credentials: { issuer: 'https://keys.example.com' }\n\
        secrets: { hmac: { current: a secret of at least 32 characters } }\n";

    fn loaded(text: &str) -> LoadedConfig {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keygate.yaml");
        std::fs::write(&file, format!("{MINIMAL}{text}")).unwrap();
        Config::load_settings(&ConfigPlace::File(file), &BTreeMap::new()).unwrap()
    }

    fn gateway(listeners: &str, more: &str) -> LoadedConfig {
        loaded(&format!("db: {{ dsn: 'sqlite://x' }}\ngateway: {{ listeners: [{listeners}], {more} }}\n"))
    }

    #[test]
    fn rule_covers_what_is_below_it() {
        for (rule, path, expected) in [
            ("db", "db.dsn", true),
            ("db", "dba", false),
            ("serve.metrics", "serve.metrics.port", true),
            ("serve.http.host", "serve.http", false),
            ("gateway.listeners.*.tls", "gateway.listeners.0.tls.min_version", true),
            ("gateway.listeners.*.tls", "gateway.listeners.0.limits.head_timeout", false),
        ] {
            assert_eq!(covers(rule, path), expected, "{rule} {path}");
        }
    }

    #[test]
    fn settings_of_sockets_and_databases_need_a_restart() {
        let before = gateway("{ address: '127.0.0.1:8080' }", "");
        let after = loaded(
            "db: { dsn: 'sqlite://other' }\nserve: { http: { port: 5000 } }\nlog: { level: debug }\n\
             cache: { max_staleness: 7s }\n\
             gateway: { listeners: [{ address: '127.0.0.1:8080', require_tls: true }], threads: 3, allow_underscores: true }\n",
        );
        assert_eq!(after.restart_settings(&before), ["db.dsn", "gateway.threads", "serve.http.port"]);
        let merged = after.config.with_running(&before.config);
        assert_eq!((merged.db.dsn.as_str(), merged.serve.http.port), ("sqlite://x", before.config.serve.http.port));
        assert_eq!(merged.cache.max_staleness.0.as_secs(), 7);
        let gateway = merged.gateway.unwrap();
        assert_eq!((gateway.threads, gateway.allow_underscores, gateway.listeners[0].require_tls), (0, true, true));
    }

    #[test]
    fn times_of_caches_change_and_their_place_and_size_do_not() {
        let cache = |settings: &str| loaded(&format!("db: {{ dsn: 'sqlite://x' }}\ncache: {{ {settings} }}\n"));
        let before = cache("type: memory");
        let after = cache(
            "type: noop, ttl: 7s, max_staleness: 8s, on_database_down: deny, stale_limit: 9s, memory: { max_size: 2097152 }, \
             redis: { timeout: 6s, db: 3 }",
        );
        assert_eq!(after.restart_settings(&before), ["cache.memory.max_size", "cache.redis.db", "cache.type"]);
        let merged = after.config.with_running(&before.config).cache;
        let times = [merged.ttl, merged.max_staleness, merged.stale_limit, merged.redis.timeout];
        assert_eq!(times.map(|time| time.0.as_secs()), [7, 8, 9, 6]);
        assert_eq!(merged.on_database_down, OnDatabaseDown::Deny);
        let before = before.config.cache;
        assert_eq!((merged.r#type, merged.redis.db), (before.r#type, before.redis.db));
        assert_eq!(merged.memory.max_size, before.memory.max_size);
    }

    #[test]
    fn process_that_was_started_without_a_cache_gets_none() {
        let cache = |ttl: &str| loaded(&format!("db: {{ dsn: 'sqlite://x' }}\ncache: {{ ttl: {ttl} }}\n"));
        let (without, with) = (cache("0s"), cache("1s"));
        assert_eq!(with.restart_settings(&without), ["cache.ttl"]);
        assert!(!with.config.clone().with_running(&without.config).cache.is_on());
        assert_eq!(without.restart_settings(&with), Vec::<String>::new());
        assert!(without.config.with_running(&with.config).cache.ttl.0.is_zero());
    }

    #[test]
    fn listeners_stay_at_their_addresses() {
        let before = gateway("{ address: '127.0.0.1:8080' }, { address: '127.0.0.1:8081' }", "");
        let after = gateway("{ address: '127.0.0.1:8081', trusted_proxies: ['10.0.0.0/8'] }", "");
        assert_eq!(after.restart_settings(&before), ["gateway.listeners"]);
        let merged = after.config.with_running(&before.config).gateway.unwrap();
        let shown = merged.listeners.iter().map(|listener| (listener.address.as_str(), listener.trusted_proxies.len()));
        assert_eq!(shown.collect::<Vec<_>>(), [("127.0.0.1:8080", 0), ("127.0.0.1:8081", 1)]);
    }

    #[test]
    fn tls_of_a_listener_changes_and_neither_appears_nor_disappears() {
        let listener = |file: &str, port: u16| {
            format!("{{ address: '127.0.0.1:{port}', tls: {{ certificates: [{{ certificate: {file}, key: k }}] }} }}")
        };
        let settings = |file: &str| {
            let tls = format!("tls: {{ certificates: [{{ certificate: {file}, key: k }}] }}");
            let serve = format!(
                "serve: {{ http: {{ {tls} }}, metrics: {{ {tls} }}, public: {{ host: 127.0.0.1, port: 4, {tls} }} }}"
            );
            loaded(&format!(
                "db: {{ dsn: 'sqlite://x' }}\n{serve}\ngateway: {{ listeners: [{}] }}\n",
                listener(file, 1)
            ))
        };
        let (before, after) = (settings("a"), settings("b"));
        assert_eq!(after.restart_settings(&before), Vec::<String>::new());
        let merged = after.config.with_running(&before.config);
        let gateway = merged.gateway.unwrap();
        let serve = merged.serve;
        for tls in [&gateway.listeners[0].tls, &serve.http.tls, &serve.metrics.tls, &serve.public.unwrap().tls] {
            assert_eq!(tls.as_ref().unwrap().certificates[0].certificate.to_str(), Some("b"));
        }
        let (plain, with_tls) = (listening("{ address: '127.0.0.1:1' }"), listening(&listener("a", 1)));
        for (now, started) in [(&plain, &with_tls), (&with_tls, &plain)] {
            assert_ne!(now.restart_settings(started), Vec::<String>::new());
            let merged = now.config.clone().with_running(&started.config).gateway.unwrap();
            assert_eq!(merged.listeners[0].tls, started.config.gateway.as_ref().unwrap().listeners[0].tls);
        }
    }

    fn listening(listeners: &str) -> LoadedConfig {
        gateway(listeners, "")
    }

    #[test]
    fn sections_neither_appear_nor_disappear() {
        let (with, without) = (gateway("", ""), loaded("db: { dsn: 'sqlite://x' }\n"));
        assert_eq!(without.restart_settings(&with)[0], "gateway");
        assert_eq!(with.restart_settings(&without)[0], "gateway");
        assert!(without.config.clone().with_running(&with.config).gateway.is_some());
        assert!(with.config.with_running(&without.config).gateway.is_none());
    }
}
