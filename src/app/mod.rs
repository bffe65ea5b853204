//! The process: from a configuration to running parts.

mod build;
mod caches;
mod data_dir;
mod database;
mod dev;
mod error;
mod external_auth;
mod last_used;
mod limiter;
mod listeners;
mod lookup_throttle;
mod process;
mod signals;

pub use crate::admin::openapi_json;
pub use build::{BUILD_TIME, COMMIT};
pub use database::Migrations;
pub use dev::{Dev, DevOptions};
pub use error::AppError;
pub use listeners::{Listeners, bind};
pub use process::App;
pub use signals::wait_for_stop;
