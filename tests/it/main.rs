//! Behaviour, through the front door: the real binary, real clients, real upstreams, real files.

mod admin;
mod architecture;
mod config;
mod dev;
mod fuzz_corpus;
mod gateway;
mod sdk;
mod secrecy;
mod services;
mod support;
