//! Copies keys of another installation into the database of a configuration, for a command.

use std::sync::Arc;

use prometheus::Registry;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::error::AppError;
use crate::admin::read_key;
use crate::config::{Config, RetiredValue};
use crate::engine::{Engine, database, open_store};
use crate::id::{KeyKind, RequestId};
use crate::key::{ApiKey, EffectiveStatus, PageTokenOrigin};
use crate::lifecycle::{AdoptMode, Adopted, LifecycleError};
use crate::policy::Visibility;
use crate::request_context::RequestContext;
use crate::store::{Access, KeyStore};

/// The beginning of the request ids of audit rows.
const REQUEST: &str = "migrate-from-talos";
const NO_PUBLIC_PREFIX: &str = "active public keys were issued, but credentials.api_keys.prefix has neither public_current nor public_retired: unless \
     their prefix is in retired, they will be not found";
const OUTLIVES_MAX_TTL: &str =
    "active issued keys have a longer life than credentials.api_keys.max_ttl, after which they will be not found";

/// A database that receives keys of another installation.
pub struct KeyMigration {
    runtime: Runtime,
    store: Arc<dyn KeyStore>,
    engine: Engine,
    context: RequestContext,
    mode: AdoptMode,
    config: Config,
}

/// What became of a key.
#[derive(Debug)]
pub struct MigratedKey {
    /// Its id; empty if it has none.
    pub key_id: String,
    /// Its status in the other installation; empty if it cannot be read.
    pub status: &'static str,
    /// The result.
    pub outcome: MigrationOutcome,
    /// Why its secret may not be accepted here although it is stored.
    pub doubt: Option<&'static str>,
}

/// The result for a key.
#[derive(Debug)]
pub enum MigrationOutcome {
    /// It was added, or would be.
    Added,
    /// The same key is stored.
    Present,
    /// A key with this id is stored, and these members of it have other values.
    Differs(Vec<String>),
    /// It is not a valid key.
    Failed(String),
}

impl KeyMigration {
    /// Opens the database. A SQLite file must not be in use by a server, whose caches may have new keys as absent; with `dry_run`
    /// it is only read, and may be in use.
    ///
    /// # Errors
    /// [`AppError`] if the database cannot be used.
    pub fn open(config: Config, dry_run: bool) -> Result<Self, AppError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| AppError::io("threads cannot be started", cause))?;
        let (access, mode) =
            if dry_run { (Access::ReadOnly, AdoptMode::Compare) } else { (Access::Exclusive, AdoptMode::Write) };
        let store = runtime.block_on(async {
            if dry_run {
                // Opening would create a file that does not exist.
                database(&config.db.dsn, "db.dsn")?.schema().await?.check()?;
            }
            Ok::<_, AppError>(open_store(&config.db, access).await?)
        })?;
        let engine = Engine::over(Arc::clone(&store), &config, &Registry::new())?;
        let context = RequestContext::system(config.tenant());
        let request_id = RequestId::sane(&format!("{REQUEST}-{}", context.request_id));
        let context = RequestContext { request_id: request_id.unwrap_or(context.request_id), ..context };
        Ok(Self { runtime, store, engine, context, mode, config })
    }

    /// Says whether the installation that made a page token has an HMAC secret of this configuration.
    pub fn origin_of_page_token(&self, token: &str) -> PageTokenOrigin {
        self.engine.lifecycle.origin_of_page_token(&self.context, token)
    }

    /// The id of the key that a credential is the text of, and whether it is an issued one. The record is not looked up.
    ///
    /// # Errors
    /// Why the text cannot be a key of this configuration.
    pub fn identify(&self, credential: &SecretString) -> Result<(String, bool), &'static str> {
        let identified = self.engine.verifier.identify(self.context.tenant, credential.expose_secret());
        let id = identified.map_err(|denial| denial.message())?;
        Ok((id.to_string(), id.kind() == KeyKind::Issued))
    }

    /// Whether derived tokens of an issuer are accepted.
    pub fn accepts_issuer(&self, issuer: &str) -> bool {
        let credentials = &self.config.credentials;
        let mut retired = credentials.issuer_retired.iter().filter_map(RetiredValue::read);
        credentials.issuer == issuer || retired.any(|entry| entry.value == issuer)
    }

    /// Adds those of the keys that are not stored, in one transaction with their audit rows. The results are in the order of the keys.
    ///
    /// # Errors
    /// [`AppError::Store`]; then nothing is added.
    pub fn add(&self, imported: bool, keys: Vec<Value>) -> Result<Vec<MigratedKey>, AppError> {
        let kind = if imported { KeyKind::Imported } else { KeyKind::Issued };
        let now = self.engine.lifecycle.now();
        let names: Vec<_> = keys.iter().map(|key| key["key_id"].as_str().unwrap_or_default().to_owned()).collect();
        let read: Vec<_> = keys.into_iter().map(|key| read_key(self.context.tenant, kind, key, now)).collect();
        let valid: Vec<ApiKey> = read.iter().filter_map(|key| key.as_ref().ok()).cloned().collect();
        let adopted = self.runtime.block_on(self.engine.lifecycle.adopt(&self.context, &valid, self.mode));
        let mut adopted = adopted.map_err(|error| match error {
            LifecycleError::Store(error) => AppError::Store(error),
            other => AppError::Setting(other.to_string()),
        })?;
        let mut outcomes = adopted.drain(..);
        let result = |(key_id, key): (String, Result<ApiKey, String>)| match key {
            Ok(key) => {
                let status = key.effective_status(now);
                let outcome = outcomes.next().map_or_else(|| MigrationOutcome::Failed("no result".into()), Into::into);
                MigratedKey { key_id, status: status.name(), outcome, doubt: self.doubt(&key, status) }
            }
            Err(why) => MigratedKey { key_id, status: "", outcome: MigrationOutcome::Failed(why), doubt: None },
        };
        Ok(names.into_iter().zip(read).map(result).collect())
    }

    /// Closes the database.
    pub fn close(self) {
        self.runtime.block_on(self.store.close());
    }

    /// Why the secret of an issued key may not be accepted although its record is.
    fn doubt(&self, key: &ApiKey, status: EffectiveStatus) -> Option<&'static str> {
        let keys = &self.config.credentials.api_keys;
        if key.id.kind() == KeyKind::Imported || status != EffectiveStatus::Active {
            return None;
        }
        if key.visibility == Visibility::Public
            && keys.prefix.public_current.is_none()
            && keys.prefix.public_retired.is_empty()
        {
            return Some(NO_PUBLIC_PREFIX);
        }
        let max_ttl = keys.max_ttl.0;
        let end = key.create_time + max_ttl;
        // The time in the text of a key is that of its creation in whole seconds.
        let outlives = key.expire_time.is_none_or(|expiry| (expiry - end).num_seconds() > 0);
        (!max_ttl.is_zero() && outlives).then_some(OUTLIVES_MAX_TTL)
    }
}

impl From<Adopted> for MigrationOutcome {
    fn from(adopted: Adopted) -> Self {
        match adopted {
            Adopted::Added => Self::Added,
            Adopted::Present => Self::Present,
            Adopted::Differs(members) => Self::Differs(members),
        }
    }
}
