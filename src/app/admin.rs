//! The admin API of a process: its state, its rules for browsers, and the warnings about them.

use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use secrecy::{ExposeSecret, SecretString};

use super::build;
use super::error::AppError;
use crate::admin::{
    AdminState, AllowedHosts, Authenticator, AuthenticatorParts, BrowserRules, Cors, ListenerInfo, Node, NodeParts,
    UpstreamReport,
};
use crate::config::{AdminAuthConfig, AdminAuthMode, BOOTSTRAP_KEY_MIN, Config, HttpConfig};
use crate::engine::{Engine, RunningEngine};
use crate::pipeline::Snapshot;

/// This process as a node of the installation. `upstream_report` describes the upstreams of the gateway, if there is one; `registry` has
/// the metrics of the process.
pub(super) fn node(
    engine: &RunningEngine,
    upstream_report: Option<UpstreamReport>,
    listeners: Vec<ListenerInfo>,
    registry: &Registry,
) -> Arc<Node> {
    Arc::new(Node::new(NodeParts {
        lifecycle: Arc::clone(engine.lifecycle()),
        directory: engine.node_directory(),
        registry: registry.clone(),
        upstream_report,
        version: Arc::new(build::version(engine.config())),
        listeners,
    }))
}

/// The state of the handlers.
///
/// # Errors
/// [`AppError`] if the file of the bootstrap key cannot be used.
pub(super) fn state(
    config: &Config,
    engine: &RunningEngine,
    upstream_report: Option<UpstreamReport>,
    node: &Arc<Node>,
) -> Result<AdminState, AppError> {
    let http = &config.serve.http;
    let admin_keys = engine.admin_keys();
    let version = Arc::new(build::version(config));
    let has_console = http.console.enabled && http.auth_mode() == AdminAuthMode::Keys;
    let settings =
        config.settings().map_err(|error| AppError::Setting(format!("a setting cannot be shown: {error}")))?;
    Ok(AdminState {
        lifecycle: Arc::clone(engine.lifecycle()),
        verifier: Arc::clone(engine.verifier()),
        signing_keys: Arc::clone(engine.signing_keys()),
        authenticator: authenticator(http, engine, &admin_keys)?.map(Arc::new),
        admin_keys: admin_keys.lifecycle,
        tenant: config.tenant(),
        revoke_with_parent: config.credentials.derived_tokens.revoke_with_parent,
        client_ip_source: http.client_ip_source,
        version,
        node: Arc::clone(node),
        settings: settings.into(),
        limiter: engine.limiter().cloned(),
        console: has_console.then(|| Arc::new(engine.keyring())),
        upstream_report,
        snapshot: Arc::new(Snapshot::new(engine.snapshot_parts(&config.gateway.clone().unwrap_or_default()), |_| ())),
        has_routes: config.gateway.is_some(),
        quiet_health: http.request_log.exclude_health_endpoints,
        audit: engine.lifecycle().audit().map(|(audit, _)| audit),
        gathered_calls: Arc::clone(engine.gathered_calls()),
        tracer: engine.tracer().cloned(),
    })
}

/// The rules for browsers. The names in `Host` matter only while callers are not authenticated, and not on a Unix socket, which no
/// browser connects to.
pub(super) fn browser_rules(http: &HttpConfig) -> BrowserRules {
    let is_checked = http.auth_mode() == AdminAuthMode::None && http.socket.is_none();
    BrowserRules {
        hosts: is_checked.then(|| AllowedHosts::new(http.allowed_hosts.iter().map(String::as_str))),
        cors: Cors::new(&http.cors),
    }
}

/// Logs what an operator should know about the authentication of a configuration, except what was true with the configuration before.
pub(super) fn log_warnings(config: &Config, before: Option<&Config>) {
    let known = before.and_then(|before| warning(&before.serve.http));
    if let Some(warning) = warning(&config.serve.http).filter(|warning| known != Some(*warning)) {
        tracing::warn!("{warning}");
    }
}

fn warning(http: &HttpConfig) -> Option<&'static str> {
    let has_bootstrap_key = http.auth.bootstrap_key.is_some() || http.auth.bootstrap_key_file.is_some();
    match (http.auth_mode(), http.socket.is_some()) {
        (AdminAuthMode::None, true) => Some(
            "the admin API does not authenticate callers: every program that can open its socket can manage keys (serve.http.auth.mode)",
        ),
        (AdminAuthMode::None, false) => Some(
            "the admin API does not authenticate callers: every program on this host can manage keys (serve.http.auth.mode)",
        ),
        _ if has_bootstrap_key => Some(
            "a bootstrap key is set (serve.http.auth): it has every role and does not expire; create admin keys with `keygate admin keys create`, \
             then remove it",
        ),
        _ => None,
    }
}

fn authenticator(
    http: &HttpConfig,
    engine: &RunningEngine,
    admin_keys: &Engine,
) -> Result<Option<Authenticator>, AppError> {
    if http.auth_mode() == AdminAuthMode::None {
        return Ok(None);
    }
    let bootstrap_key = bootstrap_key(&http.auth)?;
    let certificates = http.auth.certificates.iter();
    Ok(Some(Authenticator::new(AuthenticatorParts {
        verifier: Arc::clone(&admin_keys.verifier),
        bootstrap_key,
        certificates: certificates.filter_map(|entry| Some((entry.san.as_str().into(), entry.key()?))).collect(),
        throttle: engine.admin_auth_failures().cloned(),
    })))
}

fn bootstrap_key(auth: &AdminAuthConfig) -> Result<Option<SecretString>, AppError> {
    match &auth.bootstrap_key_file {
        Some(file) => read_key(file).map(Some),
        None => Ok(auth.bootstrap_key.clone()),
    }
}

fn read_key(file: &Path) -> Result<SecretString, AppError> {
    const SETTING: &str = "serve.http.auth.bootstrap_key_file";
    let text = std::fs::read_to_string(file).map(SecretString::from);
    let text = text.map_err(|cause| AppError::io(format!("{SETTING}: {} cannot be read", file.display()), cause))?;
    let key = text.expose_secret().trim();
    if key.chars().count() < BOOTSTRAP_KEY_MIN {
        return Err(AppError::Setting(format!(
            "{SETTING}: the key in the file must have {BOOTSTRAP_KEY_MIN} characters or more"
        )));
    }
    Ok(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_key_in_a_file_is_trimmed_and_has_a_minimum_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{}\n", "k".repeat(32))).unwrap();
        assert_eq!(read_key(file.path()).unwrap().expose_secret(), "k".repeat(32));
        std::fs::write(file.path(), format!(" {} \n", "k".repeat(31))).unwrap();
        let error = read_key(file.path()).unwrap_err().to_string();
        assert!(error.contains("bootstrap_key_file") && !error.contains("kk"), "{error}");
        assert!(read_key(Path::new("/nonexistent")).is_err());
    }
}
