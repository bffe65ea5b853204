//! Test support: Keygate processes, a recording upstream, a faulty TCP proxy, certificates.

pub(crate) mod admin;
pub(crate) mod authority;
pub(crate) mod keygate;
pub(crate) mod proxy;
pub(crate) mod raw_upstream;
pub(crate) mod upstream;
pub(crate) mod wait;
