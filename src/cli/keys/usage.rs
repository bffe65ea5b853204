//! `keygate keys usage`: what the requests of a key add up to, with a chart.

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::session::Session;
use crate::cli::client::{Call, segment};
use crate::cli::output::Columns;

/// The longest bar in characters.
const BAR_MAX: u64 = 40;
const COLUMNS: &Columns = &[
    ("START", "start"),
    ("REQUESTS", "requests"),
    ("REFUSED", "refused"),
    ("RECEIVED", "bytes_received"),
    ("SENT", "bytes_sent"),
    ("CHART", "chart"),
];

/// Arguments of `usage`.
#[derive(Debug, Args)]
pub(super) struct Usage {
    /// Id of the key
    key_id: String,
    /// First time, for example 2027-01-31T00:00:00Z; default: 24 hours or 30 days before --to
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Last time; default: now
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Length of a period
    #[arg(long, value_enum, default_value_t)]
    step: Step,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Step {
    /// An hour
    #[default]
    Hour,
    /// A day (UTC)
    Day,
}

impl Usage {
    /// Prints each period, and the sum on stderr.
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let step = match self.step {
            Step::Hour => "hour",
            Step::Day => "day",
        };
        let call = Call::get(format!("/keygate/v1/keys/{}/usage", segment(&self.key_id)))
            .query("from", self.from.clone().unwrap_or_default())
            .query("to", self.to.clone().unwrap_or_default())
            .query("step", step.to_owned());
        let usage = session.client.send(call).context("usage of key")?;
        let periods = usage["periods"].as_array().map_or(&[][..], Vec::as_slice);
        session.output.list(&usage, &with_chart(periods), COLUMNS)?;
        eprintln!("{}", summary(&usage));
        Ok(())
    }
}

/// The periods with a bar each: full blocks for accepted requests, light ones for refused requests.
fn with_chart(periods: &[Value]) -> Vec<Value> {
    let most = periods.iter().map(|period| number(period, "requests")).max().unwrap_or_default();
    let with_bar = |period: &Value| {
        let mut row = period.clone();
        if let Value::Object(members) = &mut row {
            let bar = bar(number(period, "requests"), number(period, "refused"), most);
            members.insert("chart".into(), bar.into());
        }
        row
    };
    periods.iter().map(with_bar).collect()
}

fn bar(requests: u64, refused: u64, most: u64) -> String {
    // Whatever is not 0 is visible.
    let length = |count: u64| (u128::from(count) * u128::from(BAR_MAX)).div_ceil(u128::from(most.max(1)));
    let all = usize::try_from(length(requests)).unwrap_or_default();
    let light = usize::try_from(length(refused)).unwrap_or_default().min(all);
    format!("{}{}", "█".repeat(all - light), "░".repeat(light))
}

fn summary(usage: &Value) -> String {
    let total = &usage["total"];
    let count = |name| number(total, name);
    let reasons = total["refusals"].as_object().into_iter().flatten();
    let reasons = reasons.map(|(code, count)| format!("{code} {count}")).collect::<Vec<_>>().join(", ");
    let reasons = if reasons.is_empty() { reasons } else { format!(" ({reasons})") };
    let without_key = match number(usage, "requests_without_key") {
        0 => String::new(),
        requests => format!("; in this time {requests} requests of any keys were counted without their keys"),
    };
    format!(
        "{} requests, {} refused{reasons}, {} bytes received, {} bytes sent{without_key}",
        count("requests"),
        count("refused"),
        count("bytes_received"),
        count("bytes_sent"),
    )
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bars_are_proportional_and_anything_but_zero_is_visible() {
        assert_eq!(bar(0, 0, 0), "");
        assert_eq!(bar(100, 0, 100), "█".repeat(40));
        assert_eq!(bar(50, 25, 100), format!("{}{}", "█".repeat(10), "░".repeat(10)));
        assert_eq!(bar(1, 0, 1_000_000), "█");
        assert_eq!(bar(1_000_000, 1, 1_000_000), format!("{}░", "█".repeat(39)));
        assert_eq!(bar(5, 5, 5), "░".repeat(40));
        assert_eq!(bar(u64::MAX, 0, u64::MAX), "█".repeat(40));
    }

    #[test]
    fn summary_names_the_reasons_of_refusals() {
        let total = json!({"requests": 12, "refused": 3, "refusals": {"quota_exceeded": 2, "scope_insufficient": 1},
            "bytes_received": 10, "bytes_sent": 20});
        let expected =
            "12 requests, 3 refused (quota_exceeded 2, scope_insufficient 1), 10 bytes received, 20 bytes sent";
        assert_eq!(summary(&json!({"total": total, "requests_without_key": 0})), expected);
        let uncertain = summary(&json!({"total": total, "requests_without_key": 7}));
        assert_eq!(
            uncertain,
            format!("{expected}; in this time 7 requests of any keys were counted without their keys")
        );
    }
}
