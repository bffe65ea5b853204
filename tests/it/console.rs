//! What a console needs beside the contract: the list of all keys, nodes, the overview and the configuration.

mod config;
mod keys;
mod million;
mod nodes;
mod top_keys;
