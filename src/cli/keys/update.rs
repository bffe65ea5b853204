//! `update`: builds request body and field mask from the flags.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::fields::{Body, Fields, object};
use super::manage::Kind;
use super::session::{KEY, Session};
use crate::cli::client::{Call, segment};

/// Arguments of `update`.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// Id of the key
    key_id: String,
    /// Display name of the key
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    fields: Fields,
    /// Comma-separated fields to set; a field without its own flag is cleared. Default: the fields with flags
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

    /// The request body and the field mask.
    fn change(&self) -> anyhow::Result<(Body, String)> {
        let fields = &self.fields;
        if fields.rate_limit_quota == Some(0) {
            bail!(
                "--rate-limit-quota must be greater than 0; to remove the limit, use --update-mask rate_limit_policy \
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
                bail!("--metadata must be a JSON object; to remove all metadata, use --metadata '{{}}'");
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
            bail!("nothing to change; set a field with --name, --scopes, --metadata or another flag");
        }
        Ok((body, mask))
    }

    fn mask(&self, body: &Body) -> anyhow::Result<String> {
        let mask = self.mask.as_deref().unwrap_or_default();
        let paths: Vec<&str> = mask.split(',').map(str::trim).filter(|path| !path.is_empty()).collect();
        if paths.is_empty() {
            return Ok(body.keys().map(String::as_str).collect::<Vec<_>>().join(","));
        }
        if let Some(field) = body.keys().find(|field| !paths.iter().any(|path| names(path, field))) {
            bail!("{field} is given but not in --update-mask; add it there");
        }
        Ok(paths.join(","))
    }
}

/// Whether a mask path names this field, in snake case or camel case.
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
    fn flags_are_converted_to_body_and_mask() {
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
    fn contradictory_flags_are_rejected_with_a_hint() {
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
