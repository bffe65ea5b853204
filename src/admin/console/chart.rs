//! Bar charts as SVG, made on the server.

use super::model::UsagePeriod;
use super::number::count;

/// The size of a chart in units of its coordinates, as in `chart.html`.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;
/// The share of its place that a bar fills, in percent.
const FILL: u64 = 72;

/// A chart of requests by period. Its template is `chart.html`.
pub(super) struct Chart {
    /// What it shows, for people who do not see it.
    pub(super) label: String,
    /// The highest number of requests in a period.
    pub(super) highest: u64,
    pub(super) bars: Vec<Bar>,
}

/// A bar: accepted requests at the bottom, refused ones above them.
pub(super) struct Bar {
    pub(super) x: u64,
    pub(super) width: u64,
    pub(super) accepted_y: u64,
    pub(super) accepted_height: u64,
    pub(super) refused_y: u64,
    pub(super) refused_height: u64,
    /// The period, such as `26 Nov`.
    pub(super) period: String,
    pub(super) requests: u64,
    pub(super) refused: u64,
}

impl Chart {
    /// A chart of days.
    pub(super) fn of_days(periods: &[UsagePeriod]) -> Self {
        let highest = periods.iter().map(|period| period.counts.requests).max().unwrap_or_default();
        let place = WIDTH / u64::try_from(periods.len().max(1)).unwrap_or(1);
        let mut x = 0;
        let bars = periods.iter().map(|period| {
            let counts = &period.counts;
            let total_height = height(counts.requests, highest);
            let refused_height = height(counts.refused, highest).min(total_height);
            let accepted_height = total_height - refused_height;
            let bar = Bar {
                x: x + place * (100 - FILL) / 200,
                width: place * FILL / 100,
                accepted_y: HEIGHT - accepted_height,
                accepted_height,
                refused_y: HEIGHT - total_height,
                refused_height,
                period: period.start.format("%-d %b").to_string(),
                requests: counts.requests,
                refused: counts.refused,
            };
            x += place;
            bar
        });
        let bars: Vec<_> = bars.collect();
        let label = format!("Requests by day in the last {} days, at most {highest} in a day", bars.len());
        Self { label, highest, bars }
    }

    /// The highest number of requests, for people.
    pub(super) fn most(&self) -> String {
        count(self.highest)
    }

    /// The first period; empty without bars.
    pub(super) fn first(&self) -> &str {
        self.bars.first().map_or("", |bar| &bar.period)
    }

    /// The last period; empty without bars.
    pub(super) fn last(&self) -> &str {
        self.bars.last().map_or("", |bar| &bar.period)
    }
}

/// The height of a number. Every number above zero is visible.
fn height(count: u64, highest: u64) -> u64 {
    if count == 0 || highest == 0 {
        return 0;
    }
    let height = u128::from(count) * u128::from(HEIGHT) / u128::from(highest);
    u64::try_from(height).unwrap_or(HEIGHT).clamp(2, HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_above_zero_is_visible_and_none_is_higher_than_the_chart() {
        for (count, highest, expected) in
            [(0, 0, 0), (0, 9, 0), (9, 9, HEIGHT), (1, 1_000_000, 2), (u64::MAX, u64::MAX, HEIGHT), (5, 10, HEIGHT / 2)]
        {
            assert_eq!(height(count, highest), expected, "{count} of {highest}");
        }
    }

    #[test]
    fn refused_requests_are_above_the_accepted_ones() {
        let period = |requests: u64, refused: u64| {
            let text = format!(
                r#"{{"start":"2026-11-26T00:00:00Z","requests":{requests},"refused":{refused},"refusals":{{}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let chart = Chart::of_days(&[period(10, 4), period(0, 0)]);
        let bar = &chart.bars[0];
        assert_eq!((bar.refused_y, bar.refused_height), (0, 48));
        assert_eq!((bar.accepted_y, bar.accepted_height), (48, 72));
        assert_eq!((chart.bars[1].accepted_height, chart.bars[1].refused_height), (0, 0));
        assert_eq!((chart.first(), chart.highest), ("26 Nov", 10));
    }
}
