//! What a console needs beside the contract: the list of all keys, nodes, the overview and the configuration.

mod keys;
mod million;
