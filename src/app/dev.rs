//! `keygate dev`: all listeners on loopback, in front of a given API or a sample API, with a demonstration key.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use prometheus::Registry;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::error::AppError;
use super::listeners::{Listeners, bind};
use super::process::App;
use super::{data_dir, dev_admin_key};
use crate::admin::{Server, ServerOptions, sample_router};
use crate::cidr::CidrSet;
use crate::config::{
    AdminAuthMode, Config, ConnectionsConfig, GatewayConfig, LogConfig, LogFormat, RouteConfig, UpstreamConfig,
    parse_endpoint,
};
use crate::duration::ConfigDuration;
use crate::external_auth::Sockets;
use crate::id::{KeyId, RequestId};
use crate::key::{EffectiveStatus, KeyDraft};
use crate::lifecycle::LifecycleError;
use crate::listener::{Admission, ConnectionMetrics, StopTimes};
use crate::request_context::RequestContext;

const ISSUER: &str = "http://localhost/keygate";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of connections of the sample API.
const SAMPLE_CONNECTIONS: usize = 512;
/// Request id of the demonstration key, so that every start uses the same key.
const DEMONSTRATION: &str = "demonstration";

/// Options of `keygate dev`.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// URL of the API to protect; the sample API if absent.
    pub upstream: Option<String>,
    /// Data directory for keys and secrets; if absent, nothing is stored.
    pub data: Option<PathBuf>,
    /// Whether a new demonstration key is issued.
    pub new_key: bool,
    /// Port of the gateway; 0 for any.
    pub gateway_port: u16,
    /// Port of the admin API; 0 for any.
    pub admin_port: u16,
    /// Port of health and metrics; 0 for any.
    pub metrics_port: u16,
}

/// A running development installation.
pub struct Dev {
    app: App,
    sample: Option<Server>,
    upstream: String,
    key_id: KeyId,
    secret: Option<SecretString>,
    status: EffectiveStatus,
    /// An admin key with every role, for the time of this process.
    admin_key: SecretString,
}

impl Dev {
    /// Starts all parts, and issues the demonstration key if it does not exist or a new one is asked for.
    ///
    /// # Errors
    /// [`AppError`] when a part cannot be started.
    pub fn start(options: &DevOptions) -> Result<Self, AppError> {
        let listeners = bind_all(options)?;
        let (upstream, sample) = match &options.upstream {
            Some(upstream) => (checked(upstream)?, None),
            None => start_sample()?,
        };
        let config = configure(options, &upstream)?;
        let app = App::start(&config, listeners)?;
        let context = RequestContext::system(config.tenant());
        let draft = demonstration(options)?;
        let issued = app.background().block_on(app.lifecycle().issue(&context, draft)).map_err(failed)?;
        let status = issued.key.effective_status(app.lifecycle().now());
        let admin_key =
            app.background().block_on(dev_admin_key::replace(&app.admin_keys().lifecycle)).map_err(failed)?;
        Ok(Self { app, sample, upstream, key_id: issued.key.id, secret: issued.secret, status, admin_key })
    }

    /// Waits for SIGINT or SIGTERM. A second signal ends the process at once with exit code 130.
    pub fn wait_for_stop(&mut self) {
        self.app.wait_for_stop();
    }

    /// The running process.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// One line of JSON with the addresses and the key; the secret is `null` if an earlier start showed it.
    pub fn to_json(&self) -> String {
        json!({
            "gateway": self.gateway_url(),
            "admin": url(self.app.admin_address()),
            "metrics": url(self.app.metrics_address()),
            "key_id": self.key_id.to_string(),
            "secret": self.secret.as_ref().map(ExposeSecret::expose_secret),
            "key_status": status_name(self.status),
            "admin_key": self.admin_key.expose_secret(),
        })
        .to_string()
    }

    /// Addresses and commands to paste, for people.
    pub fn to_text(&self) -> String {
        let (gateway, admin) = (self.gateway_url(), url(self.app.admin_address()));
        let upstream =
            if self.sample.is_some() { "a sample API that answers with what it receives" } else { &self.upstream };
        let metrics = url(self.app.metrics_address());
        let admin_key = self.admin_key.expose_secret();
        let addresses = format!(
            "Keygate is running. Ctrl-C ends it.\n\n  gateway   {gateway}   in front of {upstream}\n  admin     {admin}   issues and revokes keys\n  metrics   {metrics}/metrics   and /health/ready\n\nThe admin key of this start, for the admin API and for `keygate keys`:\n\n  export KEYGATE_ADMIN_KEY={admin_key}\n"
        );
        let keys = format!("{admin}/v2alpha1/admin/issuedApiKeys");
        match &self.secret {
            Some(secret) => {
                let secret = secret.expose_secret();
                let id = self.key_id;
                format!(
                    "{addresses}\nYour key, shown this once:\n\n  {secret}\n\nPaste into another terminal, one after the other:\n\n  curl -i -H 'Authorization: Bearer {secret}' {gateway}/hello   # 200\n  curl -i {gateway}/hello   # 401, no key\n  curl -i -X POST -H 'Authorization: Bearer {admin_key}' {keys}/{id}:revoke   # 204, the key is revoked\n  curl -i -H 'Authorization: Bearer {secret}' {gateway}/hello   # 401, at once\n"
                )
            }
            None if self.status != EffectiveStatus::Active => format!(
                "{addresses}\nThe demonstration key of this data is {}: requests with it are refused. For a new one, start again with\n\n  keygate dev --new-key\n\nor issue one now:\n\n  curl -H 'Authorization: Bearer {admin_key}' {keys} -d '{{\"name\":\"another\",\"actor_id\":\"me\"}}'\n",
                status_name(self.status)
            ),
            None => format!(
                "{addresses}\nThe first start showed the demonstration key. `keygate dev --new-key` issues a new one at the next start. Issue another now:\n\n  curl -H 'Authorization: Bearer {admin_key}' {keys} -d '{{\"name\":\"another\",\"actor_id\":\"me\"}}'\n"
            ),
        }
    }

    /// Stops everything.
    pub fn stop(self) {
        self.app.stop();
        if let Some(sample) = self.sample {
            sample.stop();
        }
    }

    fn gateway_url(&self) -> String {
        url(self.app.gateway_address())
    }
}

fn url(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| format!("http://{address}"))
}

fn failed(error: LifecycleError) -> AppError {
    match error {
        LifecycleError::Store(error) => AppError::Store(error),
        other => AppError::Setting(format!("the demonstration keys cannot be issued: {other}")),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn bind_all(options: &DevOptions) -> Result<Listeners, AppError> {
    Ok(Listeners {
        gateway: vec![bind(loopback(options.gateway_port), "--gateway-port")?.into()],
        admin: bind(loopback(options.admin_port), "--admin-port")?.into(),
        public: None,
        metrics: bind(loopback(options.metrics_port), "--metrics-port")?,
        external_auth: Sockets::default(),
    })
}

fn checked(upstream: &str) -> Result<String, AppError> {
    let upstream = upstream.trim_end_matches('/');
    match parse_endpoint(upstream) {
        Some(_) => Ok(upstream.to_owned()),
        None => {
            Err(AppError::Setting("--upstream must be http://host:port or https://host:port, without a path".into()))
        }
    }
}

fn start_sample() -> Result<(String, Option<Server>), AppError> {
    // The metrics of the sample are not published.
    let metrics = ConnectionMetrics::register(&Registry::new())?;
    let caps = ConnectionsConfig::total(SAMPLE_CONNECTIONS);
    let admission = Admission::new("sample", caps, CidrSet::default(), &metrics);
    let times = StopTimes { grace: Duration::from_secs(1), idle: Duration::ZERO };
    let options = ServerOptions { name: "sample", threads: 1, times, admission, tls: None, opened: None };
    let server = Server::start(bind(loopback(0), "port")?.into(), sample_router().into(), options)
        .map_err(|cause| AppError::io("the sample API cannot be served", cause))?;
    Ok((url(server.address()), Some(server)))
}

fn configure(options: &DevOptions, upstream: &str) -> Result<Config, AppError> {
    let mut rng: rand::rngs::StdRng = rand::make_rng();
    let material = match &options.data {
        Some(folder) => data_dir::open(folder, &mut rng)?,
        None => data_dir::ephemeral(&mut rng)?,
    };
    let mut config = Config::new(ISSUER.into(), material.hmac_secret, material.dsn);
    config.credentials.derived_tokens.jwt.signing_keys.urls = vec![material.signing_keys_url];
    config.serve.http.auth.mode = Some(AdminAuthMode::Keys);
    // A person waits for the end.
    config.serve.shutdown_idle_timeout = ConfigDuration(Duration::ZERO);
    config.log = LogConfig { format: LogFormat::Text, ..LogConfig::default() };
    config.gateway = Some(GatewayConfig {
        routes: vec![RouteConfig { name: "all".into(), upstream: Some("api".into()), ..RouteConfig::default() }],
        upstreams: BTreeMap::from([(
            "api".into(),
            UpstreamConfig {
                endpoints: vec![upstream.to_owned().into()],
                connect_timeout: ConfigDuration(CONNECT_TIMEOUT),
                read_timeout: ConfigDuration(READ_TIMEOUT),
                ..UpstreamConfig::default()
            },
        )]),
        ..GatewayConfig::default()
    });
    config.validate()?;
    Ok(config)
}

fn status_name(status: EffectiveStatus) -> &'static str {
    match status {
        EffectiveStatus::Active => "active",
        EffectiveStatus::Revoked => "revoked",
        EffectiveStatus::Expired => "expired",
    }
}

/// The demonstration key. Its request id is kept in the data directory once it was replaced.
fn demonstration(options: &DevOptions) -> Result<KeyDraft, AppError> {
    let request_id = match &options.data {
        Some(folder) if options.new_key => {
            let request_id = RequestId::random().to_string();
            data_dir::set_demonstration(folder, &request_id)?;
            request_id
        }
        Some(folder) => data_dir::demonstration(folder).unwrap_or_else(|| DEMONSTRATION.into()),
        None => DEMONSTRATION.into(),
    };
    Ok(KeyDraft {
        name: "Demonstration key".into(),
        actor_id: "demo".into(),
        scopes: vec!["demo".into()],
        request_id: Some(request_id),
        ..KeyDraft::default()
    })
}
