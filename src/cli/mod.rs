//! The command line. Each command calls one function of the library.

mod admin;
mod audit;
mod client;
mod command;
mod config;
mod connection;
mod dev;
mod explain;
mod jwk;
mod keys;
mod migrate;
mod migrate_from_talos;
mod nodes;
mod output;
mod serve;
mod shell;
mod suggest;
mod upgrade;

#[cfg(test)]
pub(crate) use command::definition;
pub use command::run;
