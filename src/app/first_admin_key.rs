//! Creates an admin key in a database without a running server: the first one of an installation.

use std::sync::Arc;

use prometheus::Registry;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::error::AppError;
use crate::admin::{NewAdminKey, NewAdminKeyResponse};
use crate::config::Config;
use crate::engine::{Engine, open_store};
use crate::id::TenantId;
use crate::lifecycle::LifecycleError;
use crate::request_context::RequestContext;
use crate::store::{Access, KeyStore};

/// Where to create an admin key.
pub struct AdminKeyDatabase {
    /// The data source name of the database.
    pub dsn: String,
    /// The secret that signs keys, `secrets.hmac.current` of the installation.
    pub hmac_secret: SecretString,
}

/// Creates an admin key. Returns the response that the admin API would give.
///
/// # Errors
/// [`AppError`] if the database cannot be used or a field is invalid.
pub fn create_admin_key(database: AdminKeyDatabase, new: NewAdminKey) -> Result<Value, AppError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| AppError::io("threads cannot be started", cause))?;
    let AdminKeyDatabase { dsn, hmac_secret } = database;
    let config = Config::new("keygate".into(), hmac_secret, dsn);
    runtime.block_on(async {
        // A server may run: a new key is in no cache.
        let store = open_store(&config.db, Access::Beside).await?;
        let created = issue(&config, Arc::clone(&store), new).await;
        store.close().await;
        created
    })
}

async fn issue(config: &Config, store: Arc<dyn KeyStore>, new: NewAdminKey) -> Result<Value, AppError> {
    let engine = Engine::over(store, config, &Registry::new())?.for_admin_keys(config);
    let context = RequestContext::system(TenantId::ADMIN);
    let issued = engine.lifecycle.issue(&context, new.draft()).await.map_err(|error| match error {
        LifecycleError::Store(error) => AppError::Store(error),
        other => AppError::Setting(other.to_string()),
    })?;
    Ok(json!(NewAdminKeyResponse::new(&issued.key, issued.secret.as_ref(), engine.lifecycle.now())))
}
