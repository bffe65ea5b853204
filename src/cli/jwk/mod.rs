//! `keygate jwk`: keys that sign tokens, as JSON Web Keys (RFC 7517).

mod generate;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Call;
use super::connection::Connection;
use super::output::{pretty, print};
use generate::{Curve, Pair, RsaAlgorithm};

const KEY_SET: &str = "/v2alpha1/derivedKeys/jwks.json";

/// `keygate jwk`.
#[derive(Debug, Subcommand)]
pub(super) enum Jwk {
    /// Make a new key
    #[command(subcommand)]
    Generate(Generate),
    /// Print the public keys that check a running Keygate's tokens
    Get,
}

/// `keygate jwk generate`.
#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// An Ed25519 key, the kind to sign Keygate's tokens with
    Eddsa {
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        public: Public,
    },
    /// A key on a curve of NIST, for other programs: Keygate shows it and cannot sign with it
    Ecdsa {
        /// The curve
        #[arg(long, value_enum, default_value_t = Curve::P256)]
        curve: Curve,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        public: Public,
    },
    /// An RSA key; Keygate signs with it as RS256, whatever --alg says
    Rsa {
        /// The size: 2048, 3072, 4096 or 8192
        #[arg(long, value_name = "NUMBER", default_value_t = 2048)]
        bits: u32,
        /// The algorithm it signs with
        #[arg(long, value_enum, default_value_t = RsaAlgorithm::Rs256)]
        alg: RsaAlgorithm,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        public: Public,
    },
    /// A shared secret, for other programs: Keygate does not sign with it
    Hmac {
        /// The size: 256 or more, a multiple of 8
        #[arg(long, value_name = "NUMBER", default_value_t = 512)]
        bits: u32,
        #[command(flatten)]
        form: Form,
    },
}

/// How a new key is written.
#[derive(Debug, Args)]
pub(super) struct Form {
    /// The key's name; its RFC 7638 thumbprint by default
    #[arg(long)]
    kid: Option<String>,
    /// What the key is for
    #[arg(long = "use", value_name = "USE", default_value = "sig", value_parser = ["sig", "enc"])]
    usage: String,
    /// Write a key set, {"keys":[...]}, as settings and servers take it
    #[arg(long)]
    jwks: bool,
    /// Write to a new file that only you can read, not to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is written of a key pair.
#[derive(Debug, Args)]
pub(super) struct Public {
    /// Leave the private part out; it is then nowhere
    #[arg(long)]
    public_only: bool,
}

impl Jwk {
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<()> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::Get => get(connection),
        }
    }
}

fn get(connection: &Connection) -> anyhow::Result<()> {
    let answer = connection.open()?.send(Call::get(KEY_SET)).context("get JSON web key set")?;
    let keys = answer.pointer("/jwks/keys").or_else(|| answer.get("keys"));
    let keys = keys.context("get JSON web key set: there is no key set in the answer; check --endpoint")?;
    print(&pretty(&json!({ "keys": keys })))
}

impl Generate {
    fn run(&self) -> anyhow::Result<()> {
        let (pair, form, public_only) = match self {
            Self::Eddsa { form, public } => (generate::eddsa()?, form, public.public_only),
            Self::Ecdsa { curve, form, public } => (generate::ecdsa(*curve)?, form, public.public_only),
            Self::Rsa { bits, alg, form, public } => (generate::rsa(*bits, *alg)?, form, public.public_only),
            Self::Hmac { bits, form } => (generate::hmac(*bits)?, form, false),
        };
        form.write(&pair, public_only)
    }
}

impl Form {
    fn write(&self, pair: &Pair, public_only: bool) -> anyhow::Result<()> {
        let kid = self.kid.clone().filter(|kid| !kid.is_empty()).unwrap_or_else(|| pair.thumbprint());
        let key = pair.to_json(&kid, &self.usage, public_only);
        let whole = if self.jwks { json!({ "keys": [key] }) } else { key };
        match &self.output {
            Some(file) => save(file, &whole)?,
            None => print(&pretty(&whole))?,
        }
        eprintln!("kid: {kid}\ntype: {}\nalg: {}", pair.kind(), pair.algorithm());
        Ok(())
    }
}

/// Writes a file that only its owner can read. One that is there may be the only copy of another key, so it stays.
fn save(file: &Path, key: &Value) -> anyhow::Result<()> {
    let name = file.display();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            let written = made.write_all(pretty(key).as_bytes()).and_then(|()| made.sync_all());
            written.with_context(|| format!("--output {name}"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("--output {name} is there already; choose another name, or move that file away")
        }
        Err(error) => Err(error).with_context(|| format!("--output {name}")),
    }
}
