//! Keygate.

pub mod cache;
pub mod cidr;
pub mod clock;
pub mod credential;
pub mod id;
pub mod key;
pub mod policy;
pub mod store;
pub mod verifier;
