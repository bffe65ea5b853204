//! Tests of the binary through its network interfaces and its command line, with real servers and files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access_log;
mod access_log_output;
mod admin;
mod admin_auth;
mod admin_browser;
mod admin_errors;
mod architecture;
mod audit;
mod bad_input;
mod browser;
mod cache_races;
mod cli;
mod client_address;
mod coming_from;
mod config;
mod config_places;
#[cfg(feature = "axum")]
mod conformance;
mod connections;
mod console;
mod console_pages;
mod cors;
mod crash;
mod credential_locations;
mod derived;
mod dev;
#[cfg(feature = "axum")]
mod examples;
mod explain;
mod external_auth;
mod failures;
mod fuzz_corpus;
mod gateway;
mod harness;
mod http1;
mod http2;
mod introspection;
mod last_used;
#[cfg(feature = "layer")]
mod layer;
mod limits;
mod lists;
mod lookup_flood;
mod metrics;
mod migrate;
mod migrate_from_talos;
mod nodes;
mod openapi;
mod origins;
mod overload;
mod postgres;
mod proof_cache;
mod races;
mod readiness;
mod redis;
mod reload;
mod retention;
mod revocation;
mod rotation;
mod routes;
mod sdk;
mod sdk_first;
mod sdk_languages;
mod secrecy;
mod sqlite_lock;
mod stop;
mod streams;
mod support;
mod tls;
mod traces;
mod upstream_tls;
mod upstreams;
mod usage;
mod wire_details;
