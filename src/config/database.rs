//! `db`: where keys are kept.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;
use crate::duration::parse_go;

const DEFAULT_CONNECTIONS: u32 = 8;

/// Where keys are kept.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite://PATH`, with `?max_conns=N` if wanted. Required. The options for idle connections and for the life of
    /// connections (`max_idle_conns`, `max_conn_lifetime`, `max_conn_idle_time`) are accepted, without effect on SQLite.
    pub dsn: String,
}

/// A data source that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dsn {
    /// A SQLite file, or memory when there is no path.
    Sqlite {
        /// The file.
        path: Option<PathBuf>,
        /// Connections at the most.
        max_connections: u32,
    },
}

impl fmt::Debug for DatabaseConfig {
    /// Other sources than files have a password in their name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.parse().is_ok();
        f.debug_struct("DatabaseConfig").field("dsn", &if plain { &self.dsn } else { "[REDACTED]" }).finish()
    }
}

impl DatabaseConfig {
    /// Reads the data source name.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn parse(&self) -> Result<Dsn, &'static str> {
        if self.dsn == ":memory:" {
            return Ok(Dsn::Sqlite { path: None, max_connections: 1 });
        }
        let (scheme, rest) = self.dsn.split_once("://").ok_or("must look like sqlite://PATH")?;
        match scheme {
            "sqlite" | "sqlite3" => parse_sqlite(rest),
            "postgres" | "postgresql" | "mysql" | "cockroach" | "cockroachdb" => {
                Err("names a database that this version cannot use; write sqlite://PATH")
            }
            _ => Err("must begin with sqlite://"),
        }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require("db.dsn", &self.dsn);
        if let Err(why) = self.parse() {
            problems.add_first("db.dsn", why);
        }
    }
}

fn parse_sqlite(rest: &str) -> Result<Dsn, &'static str> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut max_connections = DEFAULT_CONNECTIONS;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').ok_or("has an option without a value")?;
        match name {
            "max_conns" | "pool_max_conns" => {
                max_connections =
                    value.parse().ok().filter(|n| *n > 0).ok_or("has a max_conns that is no number above 0")?;
            }
            "max_idle_conns" | "pool_min_conns" => {
                value.parse::<u32>().map_err(|_| "has an option for idle connections that is no number")?;
            }
            "max_conn_lifetime" | "max_conn_idle_time" | "pool_max_conn_lifetime" | "pool_max_conn_idle_time" => {
                parse_go(value)
                    .map_err(|_| "has an option for times that is no duration; write 90s, 1h30m or 250ms")?;
            }
            _ => return Err("has an option that is not known; only max_conns has an effect on SQLite"),
        }
    }
    let path = match path {
        "" => return Err("names no file; write sqlite://PATH"),
        ":memory:" => None,
        path => Some(PathBuf::from(path)),
    };
    Ok(Dsn::Sqlite { path, max_connections })
}
