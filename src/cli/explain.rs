//! `keygate explain`: why a request with a credential is accepted or rejected.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::client::Call;
use super::connection::Connection;
use super::output::{Columns, Output};

const EXPLAIN: &str = "/keygate/v1/explain";
const STEPS: &Columns = &[("STEP", "step"), ("OUTCOME", "outcome"), ("CODE", "code"), ("DETAIL", "detail")];

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    output: Output,
    /// A key or a token; - reads it from stdin
    #[arg(value_name = "CREDENTIAL", required_unless_present = "key_id", conflicts_with = "key_id")]
    credential: Option<SecretString>,
    /// Id of a key, instead of its credential
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// URL of the request to the gateway, or its path; without it only the credential is explained
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Method of the request [default: GET]
    #[arg(long, value_name = "METHOD", requires = "url")]
    method: Option<String>,
    /// Address of the client
    #[arg(long, value_name = "IP")]
    client_ip: Option<String>,
}

impl Explain {
    /// Prints the steps. The exit code is 0 if the request would be accepted.
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let response = connection.open()?.send(Call::post(EXPLAIN, self.body()?)).context("explain")?;
        let Some(steps) = response["steps"].as_array() else { bail!("explain: the response has no steps") };
        let decision = &response["decision"];
        let text = |name: &str| decision[name].as_str().unwrap_or_default().to_owned();
        let allowed = decision["allowed"].as_bool();
        match allowed {
            Some(true) => eprintln!("The request is ACCEPTED"),
            Some(false) => {
                eprintln!("The request is REJECTED: {} {}, by {}", decision["status"], text("code"), text("step"));
            }
            None => eprintln!("It is not known whether the request is accepted: see {}", text("step")),
        }
        self.output.list(&response, steps, STEPS)?;
        Ok(if allowed == Some(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn body(&self) -> anyhow::Result<Value> {
        let mut body = Map::new();
        if let Some(argument) = &self.credential {
            body.insert("credential".into(), super::keys::credential(argument)?.expose_secret().into());
        }
        let members =
            [("key_id", &self.key_id), ("url", &self.url), ("method", &self.method), ("client_ip", &self.client_ip)];
        for (name, value) in members {
            if let Some(value) = value {
                body.insert(name.into(), value.as_str().into());
            }
        }
        Ok(body.into())
    }
}
