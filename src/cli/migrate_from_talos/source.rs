//! The installation that keys are copied from.

use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::cli::client::{Call, CallError, Client};

/// How often a page is requested while the server is not available.
const TRIES: u32 = 5;
/// The time before the second try; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The two kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Issued,
    Imported,
}

/// The installation that keys are copied from.
pub(super) struct Source {
    client: Client,
    page_size: u32,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Issued, Self::Imported];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Imported => "imported",
        }
    }

    pub(super) fn is_imported(self) -> bool {
        self == Self::Imported
    }
}

impl Source {
    pub(super) fn new(client: Client, page_size: u32) -> Self {
        Self { client, page_size }
    }

    /// Reads all pages of both kinds, and passes each on before the next one is read.
    pub(super) fn each_page(&self, mut take: impl FnMut(Kind, Vec<Value>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for kind in Kind::ALL {
            let mut token = String::new();
            loop {
                let (keys, next) = self.page(kind, self.page_size, &token)?;
                take(kind, keys)?;
                if next.is_empty() {
                    break;
                }
                if next == token {
                    bail!("list {} keys: the server returned the same page token twice", kind.name());
                }
                token = next;
            }
        }
        Ok(())
    }

    /// A page token of the server; `None` if it has at most one key of each kind. The second value is whether it has keys.
    pub(super) fn page_token(&self) -> anyhow::Result<(Option<String>, bool)> {
        let mut has_keys = false;
        for kind in Kind::ALL {
            let (keys, token) = self.page(kind, 1, "")?;
            has_keys |= !keys.is_empty();
            if !token.is_empty() {
                return Ok((Some(token), true));
            }
        }
        Ok((None, has_keys))
    }

    /// The server's verification of a credential.
    pub(super) fn verify(&self, credential: &str) -> anyhow::Result<Value> {
        let call = || Call::post("/v2alpha1/admin/apiKeys:verify", json!({ "credential": credential })).no_cache(true);
        self.send(call).context("verify the credential at the other installation")
    }

    /// The keys of a page, and the token of the next one.
    fn page(&self, kind: Kind, size: u32, token: &str) -> anyhow::Result<(Vec<Value>, String)> {
        let path = format!("/v2alpha1/admin/{}ApiKeys", kind.name());
        let call = || Call::get(&*path).query("page_size", size.to_string()).query("page_token", token.to_owned());
        let action = || format!("list {} keys", kind.name());
        let mut response = self.send(call).with_context(action)?;
        match response.get_mut(format!("{}_api_keys", kind.name())).map(Value::take) {
            Some(Value::Array(keys)) => {
                let next = response["next_page_token"].as_str().unwrap_or_default();
                Ok((keys, next.to_owned()))
            }
            _ => bail!("{}: the response has no list of keys; check --endpoint", action()),
        }
    }

    /// Makes a call, again while the server is not available.
    fn send(&self, call: impl Fn() -> Call) -> Result<Value, CallError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.client.send(call()) {
                Err(error) if is_temporary(&error) => {
                    eprintln!("{error}; trying again in {} s", wait.as_secs());
                    thread::sleep(wait);
                    wait *= 2;
                }
                result => return result,
            }
        }
        self.client.send(call())
    }
}

fn is_temporary(error: &CallError) -> bool {
    match error {
        CallError::TimedOut { .. } | CallError::Unreachable { .. } => true,
        CallError::Api { status, .. } => matches!(status, 429 | 502..=504),
        CallError::NotRunning(_) | CallError::UnexpectedResponse { .. } => false,
    }
}
