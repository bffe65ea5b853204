//! `keygate audit list` and `keygate audit export`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::events::{EVENT, Filter, Order, next_token, take_events};
use crate::cli::client::Client;
use crate::cli::output::{Output, print};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Maximum number of events per page; default: that of the server
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    page_size: u32,
    /// Continue after the page that returned this token
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    filter: Filter,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl List {
    pub(super) fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let mut page = self.filter.page(client, Order::Descending, (self.page_size, &self.page_token), None)?;
        if !next_token(&page).is_empty() {
            eprintln!("Next page token: {}", next_token(&page));
        }
        let events = take_events(&mut page);
        page["audit_events"] = events.clone().into();
        output.list(&page, &events, EVENT)
    }
}

impl Export {
    pub(super) fn run(&self, client: &Client) -> anyhow::Result<()> {
        let Some(path) = &self.output else {
            return self.filter.all(client, Order::Ascending, None, |events| print(&lines(&events)));
        };
        let failed = || format!("cannot write {}", path.display());
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // The rows name keys, actors and addresses.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).with_context(failed)?;
        self.filter.all(client, Order::Ascending, None, |events| {
            file.write_all(lines(&events).as_bytes()).with_context(failed)
        })
    }
}

fn lines(events: &[Value]) -> String {
    events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect()
}
