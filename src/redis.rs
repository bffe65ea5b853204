//! The connection to Redis that all of this process shares: one multiplexed connection, made again whenever it breaks.
//!
//! A caller never waits for a connection. Without one a call fails at once, and a call that takes longer than the timeout
//! fails too, so Redis that is away costs a request next to nothing.

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

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between attempts to connect: the first pause, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a connection must have been good for the next pause to be short again.
const HELD: Duration = Duration::from_secs(10);

/// Redis, as the configuration describes it. Nothing is connected until [`Redis::keep_connected`] runs.
pub struct Redis {
    servers: Servers,
    timeout: Duration,
    current: ArcSwapOption<Connection>,
    /// Tells that the current connection is no good.
    broken: Notify,
    made: AtomicU64,
}

/// Where to connect.
enum Servers {
    One(Client),
    Cluster(ClusterClient),
    Sentinel(tokio::sync::Mutex<SentinelClient>),
}

#[derive(Clone)]
struct Connection {
    /// Tells connections apart.
    number: u64,
    link: Link,
}

#[derive(Clone)]
enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Why Redis gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// There is no connection now; one is being made.
    #[error("there is no connection to Redis; check cache.redis and that Redis is up")]
    Unavailable,
    /// No answer in time.
    #[error("Redis did not answer within cache.redis.timeout")]
    Timeout,
    /// Redis refused, or answered what cannot be used.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// The settings make no address.
    #[error("cache.redis: {0}")]
    Settings(String),
}

impl Redis {
    /// Reads the settings; connects nowhere.
    ///
    /// # Errors
    /// [`RedisError::Settings`] when they make no address.
    pub fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        if config.tls.enabled {
            crate::tls::install_crypto_provider();
        }
        Ok(Self {
            servers: Servers::new(config).map_err(|error| RedisError::Settings(error.to_string()))?,
            timeout: config.timeout.0,
            current: ArcSwapOption::empty(),
            broken: Notify::new(),
            made: AtomicU64::new(0),
        })
    }

    /// Keeps a connection, for as long as it is polled.
    pub async fn keep_connected(&self) {
        let (mut pause, mut failing) = (PAUSE, false);
        loop {
            match self.connect().await {
                Ok(connection) => {
                    tracing::info!("Redis is connected");
                    failing = false;
                    let made = Instant::now();
                    self.current.store(Some(Arc::new(connection)));
                    while self.is_connected() {
                        self.broken.notified().await;
                    }
                    // Each time that Redis answers and falls silent again costs somebody the timeout.
                    if made.elapsed() >= HELD {
                        pause = PAUSE;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "Redis cannot be reached; requests go on without it");
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for the first connection, but not for ever.
    pub async fn connected(&self, limit: Duration) {
        let connected = async {
            while !self.is_connected() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Without Redis things go on.
        let _ = tokio::time::timeout(limit, connected).await;
    }

    /// Whether there is a connection that is not known to be broken.
    pub fn is_connected(&self) -> bool {
        self.current.load().is_some()
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`RedisError`]; in time, whatever state Redis is in.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.call(async |mut link| match &mut link {
            Link::One(connection) => command.query_async(connection).await,
            Link::Cluster(connection) => command.query_async(connection).await,
        })
        .await
    }

    /// Runs a script, which is atomic.
    ///
    /// # Errors
    /// [`RedisError`]; in time, whatever state Redis is in.
    pub async fn run_script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        self.call(async |mut link| match &mut link {
            Link::One(connection) => script.invoke_async(connection).await,
            Link::Cluster(connection) => script.invoke_async(connection).await,
        })
        .await
    }

    async fn call<T>(&self, work: impl AsyncFnOnce(Link) -> redis::RedisResult<T>) -> Result<T, RedisError> {
        let Some(connection) = self.current.load_full() else {
            return Err(RedisError::Unavailable);
        };
        match tokio::time::timeout(self.timeout, work(connection.link.clone())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_answer(&error) => Err(RedisError::Refused(error.to_string())),
            Ok(Err(_)) => {
                self.give_up(&connection);
                Err(RedisError::Unavailable)
            }
            Err(_) => {
                self.give_up(&connection);
                Err(RedisError::Timeout)
            }
        }
    }

    /// Lets go of a connection, once, so that a new one is made.
    fn give_up(&self, connection: &Connection) {
        let current = self.current.load();
        if current.as_ref().is_some_and(|current| current.number == connection.number) {
            self.current.compare_and_swap(&*current, None);
            self.broken.notify_one();
        }
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        let mut link = limited(CONNECT_TIMEOUT, self.servers.connect()).await?;
        // One that is too slow for calls is of no use.
        limited(self.timeout, async {
            let ping = redis::cmd("PING");
            match &mut link {
                Link::One(connection) => ping.query_async::<()>(connection).await,
                Link::Cluster(connection) => ping.query_async::<()>(connection).await,
            }
        })
        .await?;
        Ok(Connection { number: self.made.fetch_add(1, Ordering::Relaxed), link })
    }
}

async fn limited<T>(limit: Duration, work: impl Future<Output = redis::RedisResult<T>>) -> Result<T, RedisError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| RedisError::Refused(error.to_string())),
        Err(_) => Err(RedisError::Timeout),
    }
}

/// Whether Redis itself said no, and would again over another connection.
fn is_answer(error: &redis::RedisError) -> bool {
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
            (None, [one]) => {
                let info = one.clone().into_connection_info()?.set_redis_settings(login(config));
                Client::open(info).map(Self::One)
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
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        match self {
            Self::One(client) => client.get_multiplexed_async_connection_with_config(&limits).await.map(Link::One),
            Self::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
            Self::Sentinel(client) => {
                client.lock().await.get_async_connection_with_config(&limits).await.map(Link::One)
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
