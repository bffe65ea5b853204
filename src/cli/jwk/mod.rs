//! `keygate jwk`: signing keys for tokens, as JSON Web Keys (RFC 7517).

mod command;
mod generate;

pub(super) use command::Jwk;
