//! The process's connection to Redis: one multiplexed connection, which is re-established when it breaks.
//!
//! A call never waits for a connection. Without one it fails at once; with one it fails after the timeout, and the connection is
//! closed. So an unavailable Redis delays few requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo,
    ScriptInvocation, TlsMode,
};
use secrecy::ExposeSecret;
use tokio::sync::Notify;

use crate::config::RedisConfig;

/// The timeout for a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The backoff between attempts to connect: the first pause, doubled up to the maximum.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lasted this long resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The configured Redis servers. There is no connection until [`Redis::keep_connected`] runs.
pub struct Redis {
    servers: Servers,
    /// In microseconds.
    timeout: AtomicU64,
    current: ArcSwapOption<Connection>,
    /// Notified when the current connection is dropped.
    disconnected: Notify,
    connections_made: AtomicU64,
}

/// The servers to connect to.
enum Servers {
    Single(Client),
    Cluster(ClusterClient),
    Sentinel(tokio::sync::Mutex<SentinelClient>),
}

#[derive(Clone)]
struct Connection {
    /// Identifies the connection.
    number: u64,
    link: Link,
}

#[derive(Clone)]
enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// An error of a Redis call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// No connection. One is being established in the background.
    #[error("there is no connection to Redis; check cache.redis and that Redis is up")]
    Unavailable,
    /// No reply within the timeout.
    #[error("Redis did not answer within cache.redis.timeout")]
    Timeout,
    /// An error reply, or a reply of the wrong type.
    #[error("Redis returned an error: {0}")]
    Refused(String),
    /// The settings are invalid.
    #[error("cache.redis: {0}")]
    Settings(String),
}

impl Redis {
    /// Parses the settings. Does not connect.
    ///
    /// # Errors
    /// [`RedisError::Settings`] if the settings are invalid.
    pub fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        if config.tls.enabled {
            crate::tls::install_crypto_provider();
        }
        Ok(Self {
            servers: Servers::new(config).map_err(|error| RedisError::Settings(error.to_string()))?,
            timeout: AtomicU64::new(micros(config.timeout.0)),
            current: ArcSwapOption::empty(),
            disconnected: Notify::new(),
            connections_made: AtomicU64::new(0),
        })
    }

    /// Changes the timeout of calls that start from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.timeout.store(micros(timeout), Ordering::Relaxed);
    }

    fn timeout(&self) -> Duration {
        Duration::from_micros(self.timeout.load(Ordering::Relaxed))
    }

    /// Connects, and reconnects with exponential backoff, for as long as it is polled.
    pub async fn keep_connected(&self) {
        let (mut backoff, mut failing) = (BACKOFF, false);
        loop {
            match self.connect().await {
                Ok(connection) => {
                    tracing::info!("Redis is connected");
                    failing = false;
                    let connected_at = Instant::now();
                    self.current.store(Some(Arc::new(connection)));
                    while self.is_connected() {
                        self.disconnected.notified().await;
                    }
                    // Each short-lived connection costs some request the timeout, so the backoff keeps growing.
                    if connected_at.elapsed() >= STABLE_AFTER {
                        backoff = BACKOFF;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "Redis cannot be reached; requests continue without it");
                    }
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits for the first connection, for at most `timeout`.
    pub async fn connected(&self, timeout: Duration) {
        let connected = async {
            while !self.is_connected() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // The caller continues without Redis.
        let _ = tokio::time::timeout(timeout, connected).await;
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.current.load().is_some()
    }

    /// Runs a command.
    ///
    /// # Errors
    /// Any [`RedisError`], within the timeout.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.call(async |mut link| match &mut link {
            Link::Single(connection) => command.query_async(connection).await,
            Link::Cluster(connection) => command.query_async(connection).await,
        })
        .await
    }

    /// Runs a Lua script, which is atomic.
    ///
    /// # Errors
    /// Any [`RedisError`], within the timeout.
    pub async fn run_script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        self.call(async |mut link| match &mut link {
            Link::Single(connection) => script.invoke_async(connection).await,
            Link::Cluster(connection) => script.invoke_async(connection).await,
        })
        .await
    }

    async fn call<T>(&self, work: impl AsyncFnOnce(Link) -> redis::RedisResult<T>) -> Result<T, RedisError> {
        let Some(connection) = self.current.load_full() else {
            return Err(RedisError::Unavailable);
        };
        match tokio::time::timeout(self.timeout(), work(connection.link.clone())).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) if is_error_reply(&error) => Err(RedisError::Refused(error.to_string())),
            Ok(Err(_)) => {
                self.disconnect(&connection);
                Err(RedisError::Unavailable)
            }
            Err(_) => {
                self.disconnect(&connection);
                Err(RedisError::Timeout)
            }
        }
    }

    /// Drops a connection if it is the current one, so that a new one is established.
    fn disconnect(&self, connection: &Connection) {
        let current = self.current.load();
        if current.as_ref().is_some_and(|current| current.number == connection.number) {
            self.current.compare_and_swap(&*current, None);
            self.disconnected.notify_one();
        }
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        let mut link = with_timeout(CONNECT_TIMEOUT, self.servers.connect()).await?;
        // A connection that is too slow for calls is not used.
        with_timeout(self.timeout(), async {
            let ping = redis::cmd("PING");
            match &mut link {
                Link::Single(connection) => ping.query_async::<()>(connection).await,
                Link::Cluster(connection) => ping.query_async::<()>(connection).await,
            }
        })
        .await?;
        Ok(Connection { number: self.connections_made.fetch_add(1, Ordering::Relaxed), link })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn with_timeout<T>(
    timeout: Duration,
    work: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, RedisError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done.map_err(|error| RedisError::Refused(error.to_string())),
        Err(_) => Err(RedisError::Timeout),
    }
}

/// Whether Redis replied with an error that a new connection would not avoid.
fn is_error_reply(error: &redis::RedisError) -> bool {
    error.code().is_some() && !error.is_cluster_error() && !matches!(error.code(), Some("READONLY" | "LOADING"))
}

impl Servers {
    fn new(config: &RedisConfig) -> redis::RedisResult<Self> {
        let addresses = config.addrs.iter().map(|text| address(text, config.tls.enabled));
        let addresses = addresses.collect::<Option<Vec<_>>>().ok_or_else(|| {
            redis::RedisError::from((redis::ErrorKind::InvalidClientConfig, "addrs must be host:port"))
        })?;
        match (&config.sentinel.master_name, addresses.as_slice()) {
            (Some(master), _) => Self::sentinel(config, master, addresses),
            (None, [single]) => {
                let info = single.clone().into_connection_info()?.set_redis_settings(login(config));
                Client::open(info).map(Self::Single)
            }
            (None, _) => Self::cluster(config, addresses),
        }
    }

    fn cluster(config: &RedisConfig, addresses: Vec<ConnectionAddr>) -> redis::RedisResult<Self> {
        let mut builder = ClusterClient::builder(addresses)
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(CONNECT_TIMEOUT)
            .retries(2);
        if let Some(username) = &config.username {
            builder = builder.username(username);
        }
        if let Some(password) = &config.password {
            builder = builder.password(password.expose_secret());
        }
        if config.tls.enabled {
            builder = builder.tls(TlsMode::Secure);
        }
        builder.build().map(Self::Cluster)
    }

    fn sentinel(config: &RedisConfig, master: &str, addresses: Vec<ConnectionAddr>) -> redis::RedisResult<Self> {
        let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
            .set_client_to_redis_db(config.db.into());
        if let Some(username) = &config.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &config.password {
            builder = builder.set_client_to_redis_password(password.expose_secret());
        }
        if let Some(username) = &config.sentinel.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &config.sentinel.password {
            builder = builder.set_client_to_sentinel_password(password.expose_secret());
        }
        if config.tls.enabled {
            builder =
                builder.set_client_to_redis_tls_mode(TlsMode::Secure).set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        Ok(Self::Sentinel(tokio::sync::Mutex::new(builder.build()?)))
    }

    async fn connect(&self) -> redis::RedisResult<Link> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        match self {
            Self::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Link::Single)
            }
            Self::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
            Self::Sentinel(client) => {
                client.lock().await.get_async_connection_with_config(&config).await.map(Link::Single)
            }
        }
    }
}

fn address(text: &str, tls: bool) -> Option<ConnectionAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().ok().filter(|_| !host.is_empty())?;
    Some(if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    })
}

fn login(config: &RedisConfig) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_db(config.db.into());
    if let Some(username) = &config.username {
        login = login.set_username(username);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password.expose_secret());
    }
    login
}
