//! The secret that signs keys, for commands that work without a server.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::SecretString;

use crate::cli::config;

/// Environment variables with the secret, in order of precedence.
const VARIABLES: [&str; 3] = ["KEYGATE_SECRETS_HMAC_CURRENT", "TALOS_SECRETS_HMAC_CURRENT", "SECRETS_HMAC_CURRENT"];
const CONFIG_HELP: &str = "With --database: configuration file that provides secrets.hmac.current, unless \
    KEYGATE_SECRETS_HMAC_CURRENT is set [env: KEYGATE_CONFIG]";

/// Where the secret is read from.
#[derive(Debug, Args)]
pub(super) struct HmacSecret {
    // clap does not read the variable: a file that is not needed must not be an error.
    #[arg(long, value_name = "FILE", requires = "database", help = CONFIG_HELP)]
    config: Option<PathBuf>,
}

impl HmacSecret {
    /// Reads the secret.
    pub(super) fn read(&self) -> anyhow::Result<SecretString> {
        let set = |name| std::env::var(name).ok().filter(|secret| !secret.is_empty());
        if let Some(secret) = VARIABLES.into_iter().find_map(set) {
            return Ok(secret.into());
        }
        let file = self.config.clone().or_else(|| std::env::var_os("KEYGATE_CONFIG").map(PathBuf::from));
        match file {
            Some(file) => {
                Ok(config::load_file(&file).0.context("cannot read secrets.hmac.current")?.secrets.hmac.current)
            }
            None => bail!(
                "the secret that signs keys is not known; set KEYGATE_SECRETS_HMAC_CURRENT to that of the server, or use --config FILE"
            ),
        }
    }
}
