//! Commands that take a credential: `verify`, `batch-verify`, `derive-token` and `self-revoke`.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::fields::{Algorithm, credential, object, reason, ttl};
use super::session::{CREDENTIALS, SELF_REVOKE, Session};
use crate::cli::client::Call;
use crate::cli::output::Columns;

/// Maximum number of credentials in one API call.
const BATCH_MAX: usize = 100;

const VERDICT: &Columns = &[
    ("KEY ID", "key_id"),
    ("IS VALID", "is_valid"),
    ("STATUS", "status"),
    ("ACTOR ID", "actor_id"),
    ("SCOPES", "scopes"),
];
const VERDICT_IN_BATCH: &Columns = &[
    ("KEY ID", "key_id"),
    ("IS VALID", "is_valid"),
    ("STATUS", "status"),
    ("ACTOR ID", "actor_id"),
    ("SCOPES", "scopes"),
    ("ERROR", "error_message"),
];

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A key or a token; - reads it from stdin
    #[arg(value_name = "CREDENTIAL")]
    credential: SecretString,
    /// Bypass the caches and read the database
    #[arg(long)]
    no_cache: bool,
}

/// Arguments of `batch-verify`.
#[derive(Debug, Args)]
pub(super) struct BatchVerify {
    /// Keys and tokens; - reads them from stdin, one per line
    #[arg(value_name = "CREDENTIAL", required = true)]
    credentials: Vec<SecretString>,
    /// Bypass the caches and read the database
    #[arg(long)]
    no_cache: bool,
}

/// Arguments of `derive-token`.
#[derive(Debug, Args)]
pub(super) struct DeriveToken {
    /// Secret of the key; - reads it from stdin
    #[arg(value_name = "CREDENTIAL")]
    credential: SecretString,
    /// Time to live of the token: Go's units and d, w, mo, y
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
    ttl: String,
    /// Type of the token
    #[arg(long, value_enum, default_value_t = Algorithm::Jwt)]
    algorithm: Algorithm,
    /// Custom claims of the token, a JSON object
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
}

/// Arguments of `self-revoke`.
#[derive(Debug, Args)]
pub(super) struct SelfRevoke {
    /// Secret of the key; - reads it from stdin
    #[arg(value_name = "CREDENTIAL")]
    credential: SecretString,
    /// key-compromise, affiliation-changed or superseded
    #[arg(long, default_value = "", hide_default_value = true, value_parser = reason)]
    reason: String,
}

impl Verify {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<ExitCode> {
        let credential = credential(&self.credential)?;
        let body = json!({ "credential": credential.expose_secret() });
        let call = Call::post(format!("{CREDENTIALS}:verify"), body).no_cache(self.no_cache);
        let verdict = session.client.send(call).context("verify API key")?;
        let (code, message) = (&verdict["error_code"], verdict["error_message"].as_str().unwrap_or_default());
        if code == "VERIFICATION_ERROR_INVALID_FORMAT" {
            bail!("verify API key: {message}");
        }
        if verdict["is_valid"] == true {
            eprintln!("API key is VALID");
            session.output.row(&verdict, &verdict, VERDICT)?;
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("API key is INVALID");
        if !message.is_empty() {
            eprintln!("{message}");
        }
        session.output.row(&verdict, &verdict, VERDICT)?;
        Ok(ExitCode::FAILURE)
    }
}

impl BatchVerify {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let mut verdicts = Vec::new();
        for credentials in self.credentials()?.chunks(BATCH_MAX) {
            let requests = credentials.iter().map(|credential| json!({ "credential": credential.expose_secret() }));
            let body = json!({ "requests": requests.collect::<Vec<_>>() });
            let call = Call::post(format!("{CREDENTIALS}:batchVerify"), body).no_cache(self.no_cache);
            let mut response = session.client.send(call).context("verify API keys")?;
            if let Value::Array(results) = response["results"].take() {
                verdicts.extend(results);
            }
        }
        let response = json!({ "results": verdicts });
        session.output.list(&response, response["results"].as_array().map_or(&[], Vec::as_slice), VERDICT_IN_BATCH)
    }

    fn credentials(&self) -> anyhow::Result<Vec<SecretString>> {
        let mut credentials = Vec::new();
        for argument in &self.credentials {
            if argument.expose_secret() == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
                credentials.extend(text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.trim().into()));
            } else {
                credentials.push(argument.clone());
            }
        }
        if credentials.is_empty() {
            bail!("no credentials on stdin; write one per line");
        }
        Ok(credentials)
    }
}

impl DeriveToken {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let credential = credential(&self.credential)?;
        let mut body = json!({ "credential": credential.expose_secret(), "algorithm": self.algorithm.wire_name() });
        if !self.ttl.is_empty() {
            body["ttl"] = self.ttl.as_str().into();
        }
        if let Some(text) = self.claims.as_deref().filter(|text| !text.trim().is_empty()) {
            body["custom_claims"] = object("--claims", text)?;
        }
        let call = Call::post(format!("{CREDENTIALS}:derive"), body);
        let response = session.client.send(call).context("derive token")?;
        session.output.row(&response, &response["token"], &[("TOKEN", "token"), ("EXPIRE TIME", "expire_time")])
    }
}

impl SelfRevoke {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let credential = credential(&self.credential)?;
        let body = json!({ "credential": credential.expose_secret(), "reason": self.reason });
        let response = session.client.send(Call::post(SELF_REVOKE, body)).context("revoke API key")?;
        eprintln!("API key is revoked");
        session.output.data(&response)
    }
}
