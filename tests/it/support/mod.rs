//! Test support: Keygate processes, a recording upstream, a faulty TCP proxy, certificates, every kind of listener and clients for them.

pub(crate) mod admin;
pub(crate) mod authority;
pub(crate) mod chromium;
pub(crate) mod client_stream;
pub(crate) mod documentation;
pub(crate) mod hyper_upstream;
pub(crate) mod kept_connection;
pub(crate) mod keygate;
pub(crate) mod listeners;
pub(crate) mod memory;
pub(crate) mod proxy;
pub(crate) mod raw_upstream;
pub(crate) mod upstream;
pub(crate) mod wait;
