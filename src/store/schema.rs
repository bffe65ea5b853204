//! The version of the tables, and migrations between versions. The scripts are embedded; `migrations/` has a folder for each
//! kind of database.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration as Script, MigrationType, Migrator};

use super::error::StoreError;

/// The table that records which migrations were applied.
const TABLE: &str = "_sqlx_migrations";

/// The scripts of one migration.
pub(super) struct Scripts {
    pub(super) version: i64,
    /// What it adds, for the table of migrations.
    pub(super) description: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
}

/// What a store does on opening if migrations are pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// It fails with [`SchemaError::Outdated`].
    Manual,
    /// It applies them.
    Automatic,
}

/// The state of a database's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Applied versions, in ascending order; `None` before the first migration.
    applied: Option<Vec<i64>>,
    /// The version whose migration stopped halfway.
    dirty: Option<i64>,
    /// The versions that this program has scripts for, in ascending order.
    known: Vec<i64>,
}

/// Why the tables cannot be used or migrated.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SchemaError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tables are older than this program needs.
    #[error(
        "the database's tables are at version {current}, and this Keygate needs {latest}; run `keygate migrate up`"
    )]
    Outdated {
        /// The version of the tables; 0 if there are none.
        current: i64,
        /// The latest version of this program.
        latest: i64,
    },
    /// The tables are newer than this program knows.
    #[error(
        "the database's tables are at version {current}, and this Keygate knows at most {latest}; run a newer Keygate, or \
         revert the migrations with that one's `keygate migrate down`"
    )]
    Newer {
        /// The version of the tables.
        current: i64,
        /// The latest version of this program.
        latest: i64,
    },
    /// A migration stopped halfway.
    #[error("migration {0} stopped halfway; repair the tables, then set their version with `keygate migrate force`")]
    Dirty(i64),
    /// An applied migration differs from this program's.
    #[error(
        "migration {0} was applied by a Keygate that is not a release of this one; run that one, or start a new database"
    )]
    Altered(i64),
    /// A migration failed and was rolled back.
    #[error("migration {version} failed: {cause}; the tables are as they were before it")]
    Failed {
        /// The version of the migration.
        version: i64,
        /// The error of the database.
        cause: String,
    },
    /// Another transaction holds a lock on the tables.
    #[error(
        "another migration or a long transaction holds a lock on the tables; run the command again when it has finished"
    )]
    Busy,
    /// Another process uses the file.
    #[error(
        "the database {database} is in use by {}; stop it first. Two processes on one SQLite file do not see each other's revocations: \
         to replace a running process use `keygate upgrade`, and for several nodes use PostgreSQL",
        process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
    )]
    InUse {
        /// The path of the file.
        database: String,
        /// The id of the process, if it is known.
        process: Option<u32>,
    },
    /// The file cannot be locked, so that other processes cannot be excluded.
    #[error(
        "the database {database} cannot be locked: {cause}; its folder must be writable, on a file system with flock(2)"
    )]
    NotLocked {
        /// The path of the file.
        database: String,
        /// The error of the system.
        cause: String,
    },
    /// There is no such version.
    #[error("there is no version {version}; write a number from 0 to {latest}")]
    Unknown {
        /// The requested version.
        version: i64,
        /// The latest version of this program.
        latest: i64,
    },
}

/// A change of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Apply all pending migrations.
    Up,
    /// Revert this many migrations.
    Down(usize),
    /// Record this version without changing the tables.
    Force(i64),
}

impl Schema {
    pub(super) fn new(migrator: &Migrator, applied: Option<Vec<i64>>, dirty: Option<i64>) -> Self {
        Self { applied, dirty, known: ups(migrator).map(|script| script.version).collect() }
    }

    /// Whether a migration was ever applied.
    pub fn is_initialized(&self) -> bool {
        self.applied.is_some()
    }

    /// The version whose migration stopped halfway.
    pub fn dirty(&self) -> Option<i64> {
        self.dirty
    }

    /// The version of the tables; 0 if there are none.
    pub fn current(&self) -> i64 {
        self.applied.iter().flatten().copied().max().unwrap_or_default()
    }

    /// The version that this program needs.
    pub fn latest(&self) -> i64 {
        self.known.last().copied().unwrap_or_default()
    }

    /// How many migrations are pending; 0 if the tables are newer than this program.
    pub fn pending(&self) -> usize {
        if self.current() > self.latest() {
            return 0;
        }
        let applied = self.applied.as_deref().unwrap_or_default();
        self.known.iter().filter(|version| !applied.contains(version)).count()
    }

    /// Checks that this program can use the tables.
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

/// The tables of a database, over one connection.
pub(super) struct Tables<'c, C> {
    pub(super) migrator: &'static Migrator,
    pub(super) connection: &'c mut C,
    /// Converts errors of this database.
    pub(super) store_error: fn(&sqlx::Error) -> StoreError,
}

impl<C: Migrate> Tables<'_, C> {
    /// Returns the state of the tables, after at least one migration.
    pub(super) async fn schema(&mut self) -> Result<Schema, SchemaError> {
        let applied = self.applied().await?;
        let dirty = self.connection.dirty_version(TABLE).await.map_err(|error| self.failed(error))?;
        let applied = applied.into_iter().map(|(version, _)| version).filter(|version| Some(*version) != dirty);
        Ok(Schema::new(self.migrator, Some(applied.collect()), dirty))
    }

    /// Makes a change. The caller holds a lock against concurrent changes.
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
        let mut reached = None;
        for script in ups(self.migrator).filter(|script| !applied.contains(&script.version)) {
            self.connection.apply(TABLE, script).await.map_err(|error| self.failed(error))?;
            tracing::debug!(version = script.version, "migration {} is applied", script.version);
            reached = Some(script.version);
        }
        if let Some(version) = reached {
            tracing::info!(version, "the database's tables are at version {version}");
        }
        Ok(())
    }

    async fn down(&mut self, steps: usize) -> Result<(), SchemaError> {
        let applied = self.changeable().await?;
        let downs = self.migrator.iter().rev().filter(|script| script.migration_type.is_down_migration());
        for script in downs.filter(|script| applied.contains(&script.version)).take(steps) {
            self.connection.revert(TABLE, script).await.map_err(|error| self.failed(error))?;
            tracing::info!(version = script.version, "migration {} is reverted", script.version);
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

    /// Returns the applied versions, or an error if one stopped halfway, is unknown or differs from this program's.
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

/// Returns the migrator of all migrations of a kind of database.
pub(super) fn migrator(migrations: &[Scripts]) -> Migrator {
    let script = |scripts: &Scripts, kind, sql: &'static str| {
        Script::new(scripts.version, scripts.description.into(), kind, sql.into_sql_str(), false)
    };
    let scripts = migrations.iter().flat_map(|scripts| {
        let up = script(scripts, MigrationType::ReversibleUp, scripts.up);
        [up, script(scripts, MigrationType::ReversibleDown, scripts.down)]
    });
    Migrator::with_migrations(scripts.collect())
}

/// Fails for a version that this program does not have.
pub(super) fn check_known(migrator: &Migrator, version: i64) -> Result<(), SchemaError> {
    let schema = Schema::new(migrator, None, None);
    if version == 0 || schema.known.contains(&version) {
        Ok(())
    } else {
        Err(SchemaError::Unknown { version, latest: schema.latest() })
    }
}

/// Whether a lock was not acquired in time.
fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "55P03")
}

fn ups(migrator: &Migrator) -> impl Iterator<Item = &Script> {
    migrator.iter().filter(|script| script.migration_type.is_up_migration())
}
