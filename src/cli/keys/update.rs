//! `update`: a body and a mask from what the flags say.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::fields::{Body, Fields, object};
use super::manage::Kind;
use super::{KEY, Session};
use crate::cli::client::{Call, segment};

/// Arguments of `update`.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// The key's id
    key_id: String,
    /// What the key is called
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    fields: Fields,
    /// Exactly the fields to set, separated by commas; one that has no flag beside it is emptied
    #[arg(long = "update-mask", value_name = "FIELD,FIELD")]
    mask: Option<String>,
}

impl Update {
    pub(super) fn run(&self, session: &Session<'_>, kind: Kind) -> anyhow::Result<()> {
        let (body, mask) = self.change()?;
        let call = Call::patch(format!("{}/{}", kind.path(), segment(&self.key_id)), body.into());
        let key =
            session.client.send(call.query("update_mask", mask)).with_context(|| format!("update {}", kind.noun()))?;
        session.output.row(&key, &key, KEY)
    }

    /// The body and the mask.
    fn change(&self) -> anyhow::Result<(Body, String)> {
        let fields = &self.fields;
        if fields.rate_limit_quota == Some(0) {
            bail!(
                "--rate-limit-quota must be above 0; to take the limit away, use --update-mask rate_limit_policy \
                 without the quota"
            );
        }
        let mut body = Body::new();
        if let Some(name) = &self.name {
            body.insert("name".into(), name.as_str().into());
        }
        if let Some(scopes) = fields.scopes() {
            body.insert("scopes".into(), scopes.into());
        }
        match fields.metadata.as_deref() {
            Some(text) if text.trim().is_empty() => {
                bail!("--metadata must be a JSON object; to take all metadata away, use --metadata '{{}}'");
            }
            Some(text) => drop(body.insert("metadata".into(), object("--metadata", text)?)),
            None => {}
        }
        if let Some(policy) = fields.policy() {
            body.insert("rate_limit_policy".into(), policy);
        }
        if let Some(cidrs) = fields.cidrs() {
            body.insert("ip_restriction".into(), json!({ "allowed_cidrs": cidrs }));
        }
        let mask = self.mask(&body)?;
        if mask.is_empty() {
            bail!("nothing to change; name a field, such as --name, --scopes, --metadata or --update-mask");
        }
        Ok((body, mask))
    }

    fn mask(&self, body: &Body) -> anyhow::Result<String> {
        let given = self.mask.as_deref().unwrap_or_default();
        let given: Vec<&str> = given.split(',').map(str::trim).filter(|path| !path.is_empty()).collect();
        if given.is_empty() {
            return Ok(body.keys().map(String::as_str).collect::<Vec<_>>().join(","));
        }
        if let Some(field) = body.keys().find(|field| !given.iter().any(|path| names(path, field))) {
            bail!("{field} is given but would not be set; add it to --update-mask");
        }
        Ok(given.join(","))
    }
}

/// Whether a path of a mask, in either of the API's spellings, is this field.
fn names(path: &str, field: &str) -> bool {
    path.replace('_', "").eq_ignore_ascii_case(&field.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Updating {
        #[command(flatten)]
        update: Update,
    }

    fn change(arguments: &[&str]) -> Result<(Value, String), String> {
        let parsed = Updating::try_parse_from([&["update", "id"], arguments].concat());
        let update = parsed.map_err(|error| error.to_string())?.update;
        update.change().map(|(body, mask)| (body.into(), mask)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_update_sends_what_its_flags_say() {
        for (arguments, body, mask) in [
            (&["--name", ""][..], json!({"name": ""}), "name"),
            (&["--scopes", "a, b"], json!({"scopes": ["a", "b"]}), "scopes"),
            (&["--scopes", ""], json!({"scopes": []}), "scopes"),
            (&["--metadata", "{}"], json!({"metadata": {}}), "metadata"),
            (&["--allowed-cidrs", ""], json!({"ip_restriction": {"allowed_cidrs": []}}), "ip_restriction"),
            (
                &["--name", "n", "--rate-limit-quota", "5", "--rate-limit-window", "1m"],
                json!({"name": "n", "rate_limit_policy": {"quota": "5", "window": "60s"}}),
                "name,rate_limit_policy",
            ),
            (&["--update-mask", "rate_limit_policy, scopes"], json!({}), "rate_limit_policy,scopes"),
            (&["--name", "n", "--update-mask", "name,metadata"], json!({"name": "n"}), "name,metadata"),
            (
                &["--rate-limit-quota", "5", "--update-mask", "rateLimitPolicy"],
                json!({"rate_limit_policy": {"quota": "5"}}),
                "rateLimitPolicy",
            ),
        ] {
            assert_eq!(change(arguments), Ok((body, mask.to_owned())), "{arguments:?}");
        }
    }

    #[test]
    fn an_update_that_cannot_be_meant_says_what_to_write() {
        for (arguments, words) in [
            (&[][..], "nothing to change"),
            (&["--update-mask", " , "], "nothing to change"),
            (&["--rate-limit-quota", "0"], "--update-mask rate_limit_policy"),
            (&["--rate-limit-window", "60s"], "--rate-limit-quota"),
            (&["--metadata", ""], "--metadata '{}'"),
            (&["--name", "n", "--update-mask", "scopes"], "name is given"),
            (&["--metadata", "[]"], "must be a JSON object"),
        ] {
            let error = change(arguments).unwrap_err();
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
    }
}
