//! `db`: the database that stores keys.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::redact;
use crate::duration::parse_go;

const SQLITE_CONNECTIONS: u32 = 8;
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Parameters of libpq's connection URIs that are passed to the driver.
const LIBPQ: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

const FORM: &str = "must look like postgres://USER:PASSWORD@HOST/DATABASE or sqlite://PATH";

/// The database that stores keys.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` or `sqlite://PATH`. Required. Options follow a `?` and are joined by
    /// `&`: `max_conns`, `max_conn_lifetime`, `max_conn_idle_time`, for PostgreSQL also `connect_timeout`,
    /// `acquire_timeout`, `statement_timeout`, `sslmode` and `sslrootcert`. On SQLite only `max_conns` has an effect.
    #[serde(serialize_with = "redact::dsn")]
    pub dsn: String,
    /// Path of a file with `dsn` instead.
    pub dsn_file: Option<PathBuf>,
    /// Whether `serve` applies pending migrations on PostgreSQL. If false, `serve` does not start while migrations are
    /// pending; apply them with `keygate migrate up`. On SQLite, migrations are always applied.
    pub auto_migrate: bool,
}

/// A parsed data source name.
#[derive(Debug, Clone)]
pub enum Dsn {
    /// A SQLite file, or an in-memory database when there is no path.
    Sqlite {
        /// The file.
        path: Option<PathBuf>,
        /// Maximum number of connections.
        max_connections: u32,
    },
    /// A PostgreSQL database.
    Postgres(PostgresDsn),
}

/// A PostgreSQL database with its pool settings and timeouts.
#[derive(Debug, Clone)]
pub struct PostgresDsn {
    /// The URL without the options below.
    pub url: SecretString,
    /// Maximum number of connections; two for each processor when absent.
    pub max_connections: Option<u32>,
    /// Minimum number of connections that are kept open.
    pub min_connections: u32,
    /// Maximum age of a connection; unlimited when zero.
    pub max_lifetime: Duration,
    /// Maximum idle time of a connection; unlimited when zero.
    pub idle_timeout: Duration,
    /// Timeout of the first connection.
    pub connect_timeout: Duration,
    /// Maximum time that a call waits for a connection.
    pub acquire_timeout: Duration,
    /// Timeout of a statement.
    pub statement_timeout: Duration,
}

impl fmt::Debug for DatabaseConfig {
    /// Redacts data source names other than SQLite's: they may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = matches!(self.parse(), Ok(Dsn::Sqlite { .. }));
        f.debug_struct("DatabaseConfig")
            .field("dsn", &if plain { &self.dsn } else { "[REDACTED]" })
            .field("dsn_file", &self.dsn_file)
            .field("auto_migrate", &self.auto_migrate)
            .finish()
    }
}

impl DatabaseConfig {
    /// Parses the data source name.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn parse(&self) -> Result<Dsn, &'static str> {
        Dsn::parse(&self.dsn)
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require("db.dsn", &self.dsn);
        if let Err(why) = self.parse() {
            problems.add_first("db.dsn", why);
        }
    }
}

impl Dsn {
    /// Parses a data source name.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn parse(dsn: &str) -> Result<Self, &'static str> {
        if dsn == ":memory:" {
            return Ok(Self::Sqlite { path: None, max_connections: 1 });
        }
        let (scheme, rest) = dsn.split_once("://").ok_or(FORM)?;
        match scheme {
            "sqlite" | "sqlite3" => parse_sqlite(rest),
            "postgres" | "postgresql" => parse_postgres(dsn, rest),
            "mysql" | "cockroach" | "cockroachdb" => Err(
                "names a database that is not supported; write postgres://USER:PASSWORD@HOST/DATABASE or sqlite://PATH",
            ),
            _ => Err(FORM),
        }
    }
}

fn parse_sqlite(rest: &str) -> Result<Dsn, &'static str> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut pool = PoolOptions::default();
    for option in options(query) {
        let (name, value) = option?;
        if !pool.set(name, value)? {
            return Err("has an unknown option; only max_conns has an effect on SQLite");
        }
    }
    let path = match path {
        "" => return Err("names no file; write sqlite://PATH"),
        ":memory:" => None,
        path => Some(PathBuf::from(path)),
    };
    Ok(Dsn::Sqlite { path, max_connections: pool.max_connections.unwrap_or(SQLITE_CONNECTIONS) })
}

fn parse_postgres(dsn: &str, rest: &str) -> Result<Dsn, &'static str> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('#') {
        return Err("has a # in its name or password; write %23");
    }
    let mut pool = PoolOptions::default();
    let mut times = [
        (CONNECT_TIMEOUT, "connect_timeout"),
        (ACQUIRE_TIMEOUT, "acquire_timeout"),
        (STATEMENT_TIMEOUT, "statement_timeout"),
    ];
    let mut kept = Vec::new();
    for option in options(query) {
        let (name, value) = option?;
        if let Some((time, _)) = times.iter_mut().find(|(_, known)| *known == name) {
            *time = parse_timeout(value)?;
        } else if LIBPQ.contains(&name) {
            kept.push(format!("{name}={value}"));
        } else if !pool.set(name, value)? {
            return Err("has an unknown option; docs/postgresql.md lists all options");
        }
    }
    let base = dsn.split_once('?').map_or(dsn, |(base, _)| base);
    let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    let [connect_timeout, acquire_timeout, statement_timeout] = times.map(|(time, _)| time);
    Ok(Dsn::Postgres(PostgresDsn {
        url: url.into(),
        max_connections: pool.max_connections,
        min_connections: pool.min_connections,
        max_lifetime: pool.max_lifetime.unwrap_or(MAX_LIFETIME),
        idle_timeout: pool.idle_timeout.unwrap_or(IDLE_TIMEOUT),
        connect_timeout,
        acquire_timeout,
        statement_timeout,
    }))
}

/// Connection pool options.
#[derive(Default)]
struct PoolOptions {
    max_connections: Option<u32>,
    min_connections: u32,
    max_lifetime: Option<Duration>,
    idle_timeout: Option<Duration>,
}

impl PoolOptions {
    /// Sets an option; `false` if it is not a pool option.
    fn set(&mut self, name: &str, value: &str) -> Result<bool, &'static str> {
        match name {
            "max_conns" | "pool_max_conns" => {
                let number = value.parse().ok().filter(|number| *number > 0);
                self.max_connections = Some(number.ok_or("has a max_conns that is not a number above 0")?);
            }
            "max_idle_conns" => drop(parse_count(value)?),
            "pool_min_conns" => self.min_connections = parse_count(value)?,
            "max_conn_lifetime" | "pool_max_conn_lifetime" => self.max_lifetime = Some(parse_time(value)?),
            "max_conn_idle_time" | "pool_max_conn_idle_time" => self.idle_timeout = Some(parse_time(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The names and values of a URL query.
fn options(query: &str) -> impl Iterator<Item = Result<(&str, &str), &'static str>> {
    let options = query.split('&').filter(|option| !option.is_empty());
    options.map(|option| option.split_once('=').ok_or("has an option without a value"))
}

fn parse_count(value: &str) -> Result<u32, &'static str> {
    value.parse().map_err(|_| "has an option for idle connections that is not a number")
}

fn parse_time(value: &str) -> Result<Duration, &'static str> {
    parse_go(value).map_err(|_| "has a time that is not a duration; write 90s, 1h30m or 250ms")
}

fn parse_timeout(value: &str) -> Result<Duration, &'static str> {
    let time = parse_time(value)?;
    // PostgreSQL counts whole milliseconds, and 0 would disable the timeout.
    if time < Duration::from_millis(1) { Err("has a timeout below 1ms") } else { Ok(time) }
}
