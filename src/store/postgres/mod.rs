//! Keys in PostgreSQL, shared by any number of nodes. Every change is one statement, which writes the key and its row in the
//! feed together.

mod audit;
mod error;
mod feed;
mod inactive;
mod keys;
mod nodes;
mod options;
mod pool;
mod schema;
mod search;
mod statements;
mod store;
mod usage;

pub use options::PostgresOptions;
pub(super) use schema::{change as change_schema, read as read_schema};
pub use store::PostgresStore;

#[cfg(test)]
mod tests;
