//! Keygate.

#[cfg(feature = "admin")]
pub mod admin;
pub mod cache;
pub mod cidr;
pub mod clock;
pub mod config;
pub mod credential;
pub mod duration;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod id;
pub mod key;
pub mod lifecycle;
pub mod policy;
pub mod store;
pub mod verifier;
pub mod wire;
