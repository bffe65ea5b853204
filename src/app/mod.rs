//! The process: from a configuration to running parts.

mod admin;
mod admissions;
mod audit;
mod build;
mod config_watch;
mod data_dir;
mod dev;
mod dev_admin_key;
mod error;
mod external_auth;
mod first_admin_key;
mod handover;
mod key_migration;
mod listeners;
mod migrations;
mod process;
mod running_parts;
mod secret_files;
mod signals;
mod tls;

pub use crate::admin::{AdminGrant, NewAdminKey, Role, openapi_json, own_openapi_json};
pub use crate::key::PageTokenOrigin;
pub use audit::verify_audit;
pub use build::{BUILD_TIME, COMMIT};
pub use config_watch::StartedFrom;
pub use dev::{Dev, DevOptions};
pub use error::AppError;
pub use first_admin_key::{AdminKeyDatabase, create_admin_key};
pub use handover::{Inherited, Predecessor, SharedSockets};
pub use key_migration::{KeyMigration, MigratedKey, MigrationOutcome};
pub use listeners::{Listeners, bind};
pub use migrations::Migrations;
pub use process::App;
pub use secret_files::shared_secret_files;
pub use tls::check_tls;
