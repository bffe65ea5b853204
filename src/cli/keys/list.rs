//! `keygate keys list`: keys of both kinds, with conditions.

use clap::{Args, ValueEnum};

use super::fields::status;
use super::pages::{Listing, Pages};
use super::session::Session;
use crate::cli::output::Columns;

const KEYS: &str = "/keygate/v1/keys";
const KEY: &Columns = &[
    ("KEY ID", "key_id"),
    ("KIND", "kind"),
    ("NAME", "name"),
    ("ACTOR ID", "actor_id"),
    ("STATUS", "status"),
    ("EXPIRE TIME", "expire_time"),
    ("LAST USED", "last_used_time"),
    ("SCOPES", "scopes"),
];

/// Arguments of `keys list`. All conditions must hold.
#[derive(Debug, Args)]
pub(super) struct ListAll {
    /// List only keys of this kind
    #[arg(long)]
    kind: Option<KindName>,
    /// List only keys whose name begins with this text
    #[arg(long, value_name = "TEXT")]
    name_prefix: Option<String>,
    /// List only keys of actors that begin with this text
    #[arg(long, value_name = "TEXT")]
    actor_prefix: Option<String>,
    /// List only keys whose id begins with this text
    #[arg(long, value_name = "TEXT")]
    key_id_prefix: Option<String>,
    /// List only keys that have this scope
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// List only keys with this status: active, revoked or expired
    #[arg(long, value_parser = status)]
    status: Option<String>,
    /// List only keys that expire before this time, for example 2026-12-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expiring_before: Option<String>,
    /// List only keys that were neither used nor created since this time
    #[arg(long, value_name = "TIME")]
    unused_since: Option<String>,
    /// List only keys that were never used
    #[arg(long)]
    never_used: bool,
    #[command(flatten)]
    pages: Pages,
}

/// The kinds of keys.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindName {
    /// Created by Keygate
    Issued,
    /// Created by another system
    Imported,
}

impl ListAll {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let kind = self.kind.map(|kind| match kind {
            KindName::Issued => "issued".to_owned(),
            KindName::Imported => "imported".to_owned(),
        });
        let query = [
            ("kind", &kind),
            ("name_prefix", &self.name_prefix),
            ("actor_prefix", &self.actor_prefix),
            ("key_id_prefix", &self.key_id_prefix),
            ("scope", &self.scope),
            ("status", &self.status),
            ("expiring_before", &self.expiring_before),
            ("unused_since", &self.unused_since),
            ("never_used", &self.never_used.then(|| "true".to_owned())),
        ];
        let query = query.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        let listing = Listing { action: "list keys".into(), path: KEYS, member: "keys", query, columns: KEY };
        self.pages.print(session, &listing)
    }
}
