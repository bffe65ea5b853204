//! Documents that are generated from the product: the references of settings, of commands and of the admin API. `make documents` writes
//! them; the tests compare them with the committed files.

mod admin_api;
mod command_line;
mod configuration;
mod markdown;
mod schema;
