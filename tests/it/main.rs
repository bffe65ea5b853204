//! Behaviour, through the front door: the real binary, real clients, real upstreams, real files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod architecture;
mod bad_input;
mod cli;
mod config;
mod crash;
mod derived;
mod dev;
mod failures;
mod fills;
mod fuzz_corpus;
mod garbage;
mod gateway;
mod limits;
mod lists;
mod migrate;
mod nodes;
mod openapi;
mod own_errors;
mod postgres;
mod races;
mod recognition;
mod redis;
mod retention;
mod revocation;
mod sdk;
mod sdk_first;
mod secrecy;
mod services;
mod support;
mod usage;
