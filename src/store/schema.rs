//! The tables and their versions: embedded migrations, in `migrations/`, one folder for each kind of database.

use std::borrow::Cow;

use sqlx::migrate::{Migrate, MigrateError, Migration as Script, Migrator};

use super::StoreError;
#[cfg(feature = "postgres")]
use super::postgres::{self, PostgresOptions};
#[cfg(feature = "sqlite")]
use super::sqlite::{self, SqliteOptions};

/// Where it is written down which migrations were made.
const TABLE: &str = "_sqlx_migrations";

/// A database whose tables can be looked at and changed.
#[derive(Debug, Clone)]
pub enum Database {
    /// A SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteOptions),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(PostgresOptions),
}

/// What a store does about tables that are older than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// It refuses to open.
    Manual,
    /// It brings them up to date.
    Automatic,
}

/// The state of a database's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Versions that were reached, in ascending order; `None` before the first migration.
    applied: Option<Vec<i64>>,
    /// The version that was not reached in full.
    dirty: Option<i64>,
    /// The versions that this program can reach, in ascending order.
    known: Vec<i64>,
}

/// Why the tables cannot be used, or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SchemaError {
    /// The database does not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tables are older than this program needs.
    #[error(
        "the database's tables are at version {current}, and this Keygate needs {latest}; run `keygate migrate up`"
    )]
    Outdated {
        /// Of the tables; 0 when there are none.
        current: i64,
        /// Of this program.
        latest: i64,
    },
    /// The tables are newer than this program knows.
    #[error(
        "the database's tables are at version {current}, and this Keygate knows {latest} at most; run a newer Keygate, or \
         take the tables back with that one's `keygate migrate down`"
    )]
    Newer {
        /// Of the tables.
        current: i64,
        /// Of this program.
        latest: i64,
    },
    /// A migration stopped halfway.
    #[error("migration {0} stopped halfway; mend the tables, then tell their version with `keygate migrate force`")]
    Dirty(i64),
    /// A migration that was made is not the one that this program has.
    #[error(
        "migration {0} was made by a Keygate that is not a release of this one; run that one, or start a new database"
    )]
    Altered(i64),
    /// A migration was refused; nothing of it is left.
    #[error("migration {version} failed: {cause}; the tables are as they were before it")]
    Failed {
        /// Which one.
        version: i64,
        /// What the database said.
        cause: String,
    },
    /// Somebody else has the tables.
    #[error("another migration or a long transaction holds the tables; run the command again when it is over")]
    Busy,
    /// There is no such version.
    #[error("there is no version {version}; write a number from 0 to {latest}")]
    Unknown {
        /// What was asked for.
        version: i64,
        /// Of this program.
        latest: i64,
    },
}

/// A change of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// To the latest version.
    Up,
    /// This many versions back.
    Down(usize),
    /// Not of the tables, only of what is written down: they are at this version.
    Force(i64),
}

impl Database {
    /// The state of the tables. Changes nothing.
    ///
    /// # Errors
    /// [`SchemaError::Store`] when the database cannot be reached.
    pub async fn schema(&self) -> Result<Schema, SchemaError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(options) => sqlite::schema(options).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(options) => postgres::schema(options).await,
        }
    }

    /// Brings the tables up to date. Of many that do so at once, one does and the others wait.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails leaves nothing behind.
    pub async fn migrate_up(&self) -> Result<(), SchemaError> {
        self.change(Change::Up).await
    }

    /// Takes the latest `steps` migrations back, with all that is only in their tables.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails leaves nothing behind.
    pub async fn migrate_down(&self, steps: usize) -> Result<(), SchemaError> {
        self.change(Change::Down(steps)).await
    }

    /// Writes down that the tables are at `version`, without a look at them.
    ///
    /// # Errors
    /// [`SchemaError::Unknown`], or a failure of the database.
    pub async fn force_version(&self, version: i64) -> Result<(), SchemaError> {
        self.change(Change::Force(version)).await
    }

    /// `sqlite` or `postgres`.
    pub fn driver(&self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "sqlite",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
        }
    }

    async fn change(&self, change: Change) -> Result<(), SchemaError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(options) => sqlite::change_schema(options, change).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(options) => postgres::change_schema(options, change).await,
        }
    }
}

impl Schema {
    pub(super) fn new(migrator: &Migrator, applied: Option<Vec<i64>>, dirty: Option<i64>) -> Self {
        Self { applied, dirty, known: ups(migrator).map(|script| script.version).collect() }
    }

    /// Whether a migration was ever made.
    pub fn is_initialized(&self) -> bool {
        self.applied.is_some()
    }

    /// The version that a migration stopped on the way to.
    pub fn dirty(&self) -> Option<i64> {
        self.dirty
    }

    /// The version of the tables; 0 when there are none.
    pub fn current(&self) -> i64 {
        self.applied.iter().flatten().copied().max().unwrap_or_default()
    }

    /// The version that this program needs.
    pub fn latest(&self) -> i64 {
        self.known.last().copied().unwrap_or_default()
    }

    /// How many migrations are still to be made; none on tables that are newer than this program.
    pub fn pending(&self) -> usize {
        if self.current() > self.latest() {
            return 0;
        }
        let applied = self.applied.as_deref().unwrap_or_default();
        self.known.iter().filter(|version| !applied.contains(version)).count()
    }

    /// Whether this program can use the tables.
    ///
    /// # Errors
    /// [`SchemaError::Dirty`], [`SchemaError::Newer`] or [`SchemaError::Outdated`].
    pub fn check(&self) -> Result<(), SchemaError> {
        let (current, latest) = (self.current(), self.latest());
        match self.dirty {
            Some(version) => Err(SchemaError::Dirty(version)),
            None if current > latest => Err(SchemaError::Newer { current, latest }),
            None if self.pending() > 0 => Err(SchemaError::Outdated { current, latest }),
            None => Ok(()),
        }
    }
}

/// Sees that the tables are what this program needs.
#[cfg(feature = "postgres")]
pub(super) async fn prepare(database: &Database, migration: Migration) -> Result<(), SchemaError> {
    match database.schema().await?.check() {
        // Only then, because it takes a role that may make tables.
        Err(SchemaError::Outdated { .. }) if migration == Migration::Automatic => database.migrate_up().await,
        judged => judged,
    }
}

/// The tables at the end of a connection.
pub(super) struct Tables<'c, C> {
    pub(super) migrator: &'static Migrator,
    pub(super) connection: &'c mut C,
    /// The words of this database's errors.
    pub(super) store_error: fn(&sqlx::Error) -> StoreError,
}

impl<C: Migrate> Tables<'_, C> {
    /// The state of the tables, once there was a migration.
    pub(super) async fn schema(&mut self) -> Result<Schema, SchemaError> {
        let applied = self.applied().await?;
        let dirty = self.connection.dirty_version(TABLE).await.map_err(|error| self.failed(error))?;
        let applied = applied.into_iter().map(|(version, _)| version).filter(|version| Some(*version) != dirty);
        Ok(Schema::new(self.migrator, Some(applied.collect()), dirty))
    }

    /// Makes a change while nobody else does: the caller holds the lock.
    pub(super) async fn change(&mut self, change: Change) -> Result<(), SchemaError> {
        self.connection.ensure_migrations_table(TABLE).await.map_err(|error| self.failed(error))?;
        match change {
            Change::Up => self.up().await,
            Change::Down(steps) => self.down(steps).await,
            Change::Force(version) => self.force(version).await,
        }
    }

    async fn up(&mut self) -> Result<(), SchemaError> {
        let applied = self.changeable().await?;
        for script in ups(self.migrator).filter(|script| !applied.contains(&script.version)) {
            self.connection.apply(TABLE, script).await.map_err(|error| self.failed(error))?;
            tracing::info!(version = script.version, "the database's tables are at version {}", script.version);
        }
        Ok(())
    }

    async fn down(&mut self, steps: usize) -> Result<(), SchemaError> {
        let applied = self.changeable().await?;
        let downs = self.migrator.iter().rev().filter(|script| script.migration_type.is_down_migration());
        for script in downs.filter(|script| applied.contains(&script.version)).take(steps) {
            self.connection.revert(TABLE, script).await.map_err(|error| self.failed(error))?;
            tracing::info!(version = script.version, "migration {} is taken back", script.version);
        }
        Ok(())
    }

    /// The caller has emptied the table.
    async fn force(&mut self, version: i64) -> Result<(), SchemaError> {
        for script in ups(self.migrator).filter(|script| script.version <= version) {
            self.connection.skip(TABLE, script).await.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// The versions of tables that may be changed: whole, and made by what this program has.
    async fn changeable(&mut self) -> Result<Vec<i64>, SchemaError> {
        let schema = self.schema().await?;
        match schema.check() {
            Ok(()) | Err(SchemaError::Outdated { .. }) => {}
            Err(error) => return Err(error),
        }
        for (version, checksum) in self.applied().await? {
            let same = |script: &&Script| script.version == version && script.checksum == checksum;
            if ups(self.migrator).find(same).is_none() {
                return Err(SchemaError::Altered(version));
            }
        }
        Ok(schema.applied.unwrap_or_default())
    }

    async fn applied(&mut self) -> Result<Vec<(i64, Cow<'static, [u8]>)>, SchemaError> {
        let applied = self.connection.list_applied_migrations(TABLE).await.map_err(|error| self.failed(error))?;
        Ok(applied.into_iter().map(|migration| (migration.version, migration.checksum)).collect())
    }

    pub(super) fn failed(&self, error: MigrateError) -> SchemaError {
        match error {
            MigrateError::Execute(error) if is_busy(&error) => SchemaError::Busy,
            MigrateError::ExecuteMigration(error, _) if is_busy(&error) => SchemaError::Busy,
            MigrateError::Execute(error) => (self.store_error)(&error).into(),
            MigrateError::ExecuteMigration(error, version) => SchemaError::Failed { version, cause: error.to_string() },
            other => StoreError::Corrupt(other.to_string()).into(),
        }
    }
}

/// Refuses a version that this program does not have.
pub(super) fn check_known(migrator: &Migrator, version: i64) -> Result<(), SchemaError> {
    let schema = Schema::new(migrator, None, None);
    if version == 0 || schema.known.contains(&version) {
        Ok(())
    } else {
        Err(SchemaError::Unknown { version, latest: schema.latest() })
    }
}

/// A lock was not to be had in time.
fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "55P03")
}

fn ups(migrator: &Migrator) -> impl Iterator<Item = &Script> {
    migrator.iter().filter(|script| script.migration_type.is_up_migration())
}
