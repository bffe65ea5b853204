//! Filters of events, and pages of the admin API.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use crate::cli::client::{Call, Client};
use crate::cli::output::Columns;

const PATH: &str = "/keygate/v1/auditEvents";
/// Maximum page size of the API.
pub(super) const PAGE_SIZE_MAX: u32 = 1000;

/// The columns of an event.
pub(super) const EVENT: &Columns = &[
    ("TIME", "time"),
    ("EVENT", "event"),
    ("PRINCIPAL", "principal"),
    ("CLIENT", "client_ip"),
    ("KEY ID", "key_id"),
    ("ACTOR ID", "actor_id"),
    ("REQUEST ID", "request_id"),
];

/// Which events are selected.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only events at this RFC 3339 time or later
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only events before this RFC 3339 time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only events of this principal, for example admin:ID, key:ID or anonymous
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only events of this operation, for example revoke, or with the name of an event
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Only events about this key
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only events about keys of this actor
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
}

/// The order of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

impl Filter {
    /// Reads a page; `from` replaces the earliest time.
    pub(super) fn page(
        &self,
        client: &Client,
        order: Order,
        (size, token): (u32, &str),
        from: Option<&str>,
    ) -> anyhow::Result<Value> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let size = if size == 0 { String::new() } else { size.to_string() };
        let order = if order == Order::Ascending { "asc" } else { "" };
        let call = Call::get(PATH)
            .query("from", from.map_or_else(|| text(&self.from), str::to_owned))
            .query("to", text(&self.to))
            .query("principal", text(&self.principal))
            .query("operation", text(&self.operation))
            .query("key_id", text(&self.key))
            .query("actor_id", text(&self.actor))
            .query("order", order.to_owned())
            .query("page_size", size)
            .query("page_token", token.to_owned());
        client.send(call).context("list audit events")
    }

    /// Reads all pages from one on, and passes the events of each to `use_page`.
    pub(super) fn all(
        &self,
        client: &Client,
        order: Order,
        from: Option<&str>,
        mut use_page: impl FnMut(Vec<Value>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut token = String::new();
        loop {
            let mut page = self.page(client, order, (PAGE_SIZE_MAX, &token), from)?;
            let next = next_token(&page).to_owned();
            use_page(take_events(&mut page))?;
            if next.is_empty() {
                return Ok(());
            }
            if next == token {
                bail!("list audit events: the server returned the same page token twice");
            }
            token = next;
        }
    }
}

/// The token of the next page; empty on the last one.
pub(super) fn next_token(page: &Value) -> &str {
    page["next_page_token"].as_str().unwrap_or_default()
}

/// Takes the events out of a page. An empty list stays in their place.
pub(super) fn take_events(page: &mut Value) -> Vec<Value> {
    match page.get_mut("audit_events").map(Value::take) {
        Some(Value::Array(events)) => {
            page["audit_events"] = Value::Array(Vec::new());
            events
        }
        _ => Vec::new(),
    }
}
