//! Times for people: relative to now, with the exact time as a tooltip and for programs.

use std::fmt;

use askama::filters::HtmlSafe;
use chrono::{SecondsFormat, TimeDelta};

use crate::clock::Timestamp;

/// A time as an HTML element. Its parts are numbers and fixed words, so it needs no escaping.
#[derive(Clone)]
pub(super) struct Moment {
    time: Timestamp,
    text: String,
}

impl Moment {
    /// A time, relative to `now`.
    pub(super) fn new(time: Timestamp, now: Timestamp) -> Self {
        Self { time, text: relative(time - now) }
    }

    /// A time that is known to the day.
    pub(super) fn of_day(time: Timestamp, now: Timestamp) -> Self {
        let days = (now.date_naive() - time.date_naive()).num_days();
        let text = match days {
            ..=0 => "today".to_owned(),
            1 => "yesterday".to_owned(),
            days => format!("{days} days ago"),
        };
        Self { time, text }
    }

    /// The exact time, for lists of events.
    pub(super) fn exact(time: Timestamp) -> Self {
        Self { time, text: time.format("%Y-%m-%d %H:%M:%S").to_string() }
    }
}

impl HtmlSafe for Moment {}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let iso = self.time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let title = self.time.format("%Y-%m-%d %H:%M:%S UTC");
        write!(f, r#"<time datetime="{iso}" title="{title}">{}</time>"#, self.text)
    }
}

/// The distance of a time from now: `in 3 days`, `2 hours ago`.
fn relative(distance: TimeDelta) -> String {
    let seconds = distance.num_seconds();
    let span = span(seconds.unsigned_abs());
    match seconds {
        -4..=4 => "now".to_owned(),
        5.. => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// A length of time in its largest unit.
pub(super) fn span(seconds: u64) -> String {
    // From these numbers of a unit on: 47 hours say more than 1 day, and 90 days more than 2 months.
    let units = [
        (31_557_600, 2, "year"),
        (2_629_800, 4, "month"),
        (86_400, 2, "day"),
        (3600, 2, "hour"),
        (60, 2, "minute"),
        (1, 0, "second"),
    ];
    let rounded = |length: u64| seconds.saturating_add(length / 2) / length;
    let fits = |(length, least, _): &(u64, u64, &str)| rounded(*length) >= *least;
    let (length, _, name) = units.into_iter().find(fits).unwrap_or((1, 0, "second"));
    let count = rounded(length);
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_in_the_largest_unit_that_fits_twice() {
        for (seconds, text) in [
            (0, "now"),
            (5, "in 5 seconds"),
            (-80, "80 seconds ago"),
            (-120, "2 minutes ago"),
            (3600 * 35, "in 35 hours"),
            (86_400 * 90 - 10, "in 90 days"),
            (3600 * 48, "in 2 days"),
            (-86_400 * 400, "13 months ago"),
        ] {
            assert_eq!(relative(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn time_is_an_element_with_the_exact_time() {
        let now = Timestamp::from_timestamp(1_780_000_000, 0).unwrap();
        let text = Moment::of_day(now - TimeDelta::days(1), now).to_string();
        assert_eq!(text, r#"<time datetime="2026-05-27T20:26:40Z" title="2026-05-27 20:26:40 UTC">yesterday</time>"#);
    }
}
