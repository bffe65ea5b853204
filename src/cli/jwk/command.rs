//! The subcommands of `keygate jwk` and the output of generated keys.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::generate::{self, Curve, Pair, RsaAlgorithm};
use crate::cli::client::Call;
use crate::cli::connection::Connection;
use crate::cli::output::{pretty, print};

const KEY_SET: &str = "/v2alpha1/derivedKeys/jwks.json";

/// `keygate jwk`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Jwk {
    /// Generate a key
    #[command(subcommand)]
    Generate(Generate),
    /// Print the public keys that verify the tokens of a server
    Get,
}

/// `keygate jwk generate`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Generate {
    /// Generate an Ed25519 key; recommended for signing tokens
    Eddsa {
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        public: Public,
    },
    /// Generate a NIST curve key for other programs; Keygate publishes it but cannot sign with it
    Ecdsa {
        /// The curve
        #[arg(long, value_enum, default_value_t = Curve::P256)]
        curve: Curve,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        public: Public,
    },
    /// Generate an RSA key; Keygate signs with RS256 regardless of --alg
    Rsa {
        /// Size in bits: 2048, 3072, 4096 or 8192
        #[arg(long, value_name = "NUMBER", default_value_t = 2048)]
        bits: u32,
        /// The alg member of the key
        #[arg(long, value_enum, default_value_t = RsaAlgorithm::Rs256)]
        alg: RsaAlgorithm,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        public: Public,
    },
    /// Generate a symmetric key for other programs; Keygate does not sign with it
    Hmac {
        /// Size in bits: at least 256, a multiple of 8
        #[arg(long, value_name = "NUMBER", default_value_t = 512)]
        bits: u32,
        #[command(flatten)]
        form: Form,
    },
}

/// Output options of a generated key.
#[derive(Debug, Args)]
pub(in crate::cli) struct Form {
    /// The key id; default: the RFC 7638 thumbprint
    #[arg(long)]
    kid: Option<String>,
    /// The use member of the key
    #[arg(long = "use", value_name = "USE", default_value = "sig", value_parser = ["sig", "enc"])]
    usage: String,
    /// Write a JWK set, {"keys":[...]}
    #[arg(long)]
    jwks: bool,
    /// Write to a new file with mode 0600 instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Selects the parts of a key pair to write.
#[derive(Debug, Args)]
pub(in crate::cli) struct Public {
    /// Write only the public key and discard the private key
    #[arg(long)]
    public_only: bool,
}

impl Jwk {
    pub(in crate::cli) fn run(&self, connection: &Connection) -> anyhow::Result<()> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::Get => get(connection),
        }
    }
}

fn get(connection: &Connection) -> anyhow::Result<()> {
    let response = connection.open()?.send(Call::get(KEY_SET)).context("get JSON web key set")?;
    let keys = response.pointer("/jwks/keys").or_else(|| response.get("keys"));
    let keys = keys.context("get JSON web key set: the response has no key set; check --endpoint")?;
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
        let document = if self.jwks { json!({ "keys": [key] }) } else { key };
        match &self.output {
            Some(file) => save(file, &document)?,
            None => print(&pretty(&document))?,
        }
        eprintln!("kid: {kid}\ntype: {}\nalg: {}", pair.kind(), pair.algorithm());
        Ok(())
    }
}

/// Writes a file with mode 0600. Never overwrites a file, which could be the only copy of another key.
fn save(file: &Path, key: &Value) -> anyhow::Result<()> {
    let name = file.display();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut created) => {
            let written = created.write_all(pretty(key).as_bytes()).and_then(|()| created.sync_all());
            written.with_context(|| format!("--output {name}"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("--output {name} already exists; choose another name or move the file")
        }
        Err(error) => Err(error).with_context(|| format!("--output {name}")),
    }
}
