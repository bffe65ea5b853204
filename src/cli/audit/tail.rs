//! `keygate audit tail`.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::events::{EVENT, Filter, Order, take_events};
use crate::cli::client::Client;
use crate::cli::output::Output;

/// Interval between two polls.
const POLL: Duration = Duration::from_secs(1);
/// The number of events that are remembered, so that none is printed twice.
const REMEMBERED: usize = 10_000;
/// The number of events before the latest one from whose time on each poll reads: a transaction may commit after a later one.
const OVERLAP: usize = 100;

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    filter: Filter,
    /// Begin with this many of the latest events
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    lines: u32,
    /// Print the latest events and end
    #[arg(long)]
    no_follow: bool,
}

/// The events that were printed last: id and time.
#[derive(Default)]
struct Printed(VecDeque<(String, String)>);

impl Tail {
    pub(super) fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let mut printed = Printed::default();
        let mut page = self.filter.page(client, Order::Descending, (self.lines, ""), None)?;
        let mut events = take_events(&mut page);
        events.reverse();
        printed.print(events, output)?;
        if self.no_follow {
            return Ok(());
        }
        loop {
            thread::sleep(POLL);
            let from = printed.since();
            self.filter.all(client, Order::Ascending, from.as_deref(), |events| printed.print(events, output))?;
        }
    }
}

impl Printed {
    fn print(&mut self, events: Vec<Value>, output: &Output) -> anyhow::Result<()> {
        for event in events {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let id = text("id");
            if self.0.iter().rev().any(|(printed, _)| *printed == id) {
                continue;
            }
            self.0.push_back((id, text("time")));
            if self.0.len() > REMEMBERED {
                self.0.pop_front();
            }
            output.line(&event, EVENT)?;
        }
        Ok(())
    }

    /// The time from which the next poll reads.
    fn since(&self) -> Option<String> {
        let index = self.0.len().saturating_sub(OVERLAP);
        self.0.get(index).map(|(_, time)| time.clone())
    }
}
