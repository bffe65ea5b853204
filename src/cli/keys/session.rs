//! What all `keygate keys` commands share: client, output options, paths of the API and columns of a key.

use crate::cli::client::Client;
use crate::cli::output::{Columns, Output};

pub(super) const ISSUED: &str = "/v2alpha1/admin/issuedApiKeys";
pub(super) const IMPORTED: &str = "/v2alpha1/admin/importedApiKeys";
pub(super) const CREDENTIALS: &str = "/v2alpha1/admin/apiKeys";
pub(super) const SELF_REVOKE: &str = "/v2alpha1/apiKeys:selfRevoke";

/// The columns of a key.
pub(super) const KEY: &Columns =
    &[("KEY ID", "key_id"), ("NAME", "name"), ("ACTOR ID", "actor_id"), ("STATUS", "status"), ("SCOPES", "scopes")];

/// The client and the output options of one command.
pub(super) struct Session<'a> {
    pub(super) client: Client,
    pub(super) output: &'a Output,
}
