//! Parsing and formatting of durations: Go's grammar, and the longer units that `ttl` also accepts (contract, admin API
//! section 2.1).

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY: u128 = 86_400_000_000_000;

/// Unit names and their lengths in nanoseconds.
const GO_UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const LONG_UNITS: &[(&str, u128)] = &[("mo", 30 * DAY), ("y", 365 * DAY), ("w", 7 * DAY), ("d", DAY)];

/// The grammar of [`parse_go`] as a regular expression. It does not exclude values that overflow a [`Duration`].
pub(crate) const DURATION_PATTERN: &str = r"^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$";
/// The `format` of [`parse_go`] in JSON schemas.
pub(crate) const DURATION_FORMAT: &str = "go-duration";

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a duration; write numbers with units, for example 90s, 1h30m or 250ms")]
pub struct DurationError;

/// A duration in the configuration: Go's grammar without a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigDuration(pub Duration);

/// Parses Go's grammar without a sign: `1h30m`, `1.5h`, `250ms`.
///
/// # Errors
/// [`DurationError`] for other text, and for values that overflow a [`Duration`].
pub fn parse_go(text: &str) -> Result<Duration, DurationError> {
    parse(text, &[])
}

/// Parses Go's grammar with the additional units `d`, `w`, `mo` (30 days) and `y` (365 days). A text with one of these
/// units must have integers only.
///
/// # Errors
/// [`DurationError`] for other text, and for values that overflow a [`Duration`].
pub fn parse_extended(text: &str) -> Result<Duration, DurationError> {
    parse(text, LONG_UNITS)
}

/// Formats a duration as Go does: `1h0m0s`, `1.5s`, `250ms`, `0s`.
pub fn format_go(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (hours, minutes) = (nanos / GO_UNITS[7].1, nanos / GO_UNITS[6].1 % 60);
    let seconds = decimal(nanos % GO_UNITS[6].1, GO_UNITS[5].1);
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ if hours > 0 => format!("{hours}h{minutes}m{seconds}s"),
        _ if minutes > 0 => format!("{minutes}m{seconds}s"),
        _ => format!("{seconds}s"),
    }
}

fn decimal(value: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn parse(text: &str, long_units: &[(&str, u128)]) -> Result<Duration, DurationError> {
    let (mut rest, mut total, mut any_long, mut any_fraction) = (text, 0_u128, false, false);
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError)?;
        let (number, tail) = rest.split_at(number_len);
        let (long, unit, after) = unit_of(tail, long_units).ok_or(DurationError)?;
        any_long |= long;
        any_fraction |= number.contains('.');
        total = total.checked_add(scale(number, unit)?).ok_or(DurationError)?;
        rest = after;
    }
    if text.is_empty() || (any_long && any_fraction) {
        return Err(DurationError);
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| DurationError)?;
    let nanos = u32::try_from(total % 1_000_000_000).map_err(|_| DurationError)?;
    Ok(Duration::new(seconds, nanos))
}

/// The unit at the start of `text`: whether it is one of `long_units`, its length in nanoseconds, and the rest.
fn unit_of<'a>(text: &'a str, long_units: &[(&str, u128)]) -> Option<(bool, u128, &'a str)> {
    let longs = long_units.iter().map(|unit| (true, unit));
    let all = longs.chain(GO_UNITS.iter().map(|unit| (false, unit)));
    all.filter_map(|(long, (name, nanos))| text.strip_prefix(name).map(|rest| (long, *nanos, rest)))
        // Longest match: `mo` and `ms` also start with `m`.
        .min_by_key(|(_, _, rest)| rest.len())
}

fn scale(number: &str, unit: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError);
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError)? };
    // Digits after the 18th are below one nanosecond in every unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = match fraction {
        "" => 0,
        digits => {
            digits.parse::<u128>().map_err(|_| DurationError)? * unit
                / 10_u128.pow(u32::try_from(digits.len()).map_err(|_| DurationError)?)
        }
    };
    whole.checked_mul(unit).and_then(|nanos| nanos.checked_add(part)).ok_or(DurationError)
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        parse_go(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_go(self.0))
    }
}

impl JsonSchema for ConfigDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": DURATION_FORMAT, "pattern": DURATION_PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_grammar_is_parsed() {
        for (text, millis) in
            [("1h30m", 5_400_000), ("1.5h", 5_400_000), ("250ms", 250), ("0s", 0), (".5s", 500), ("1m1ms", 60_001)]
        {
            assert_eq!(parse_go(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "0", "s", "-1s", "+1s", "1 s", "1s ", "1d", "1.s.", "1..s", "1S", ".s", "1h30", "é"] {
            assert_eq!(parse_go(text), Err(DurationError), "{text}");
        }
        assert_eq!(parse_go(&format!("{}h", "9".repeat(60))), Err(DurationError));
    }

    #[test]
    fn long_units_require_integers() {
        for (text, days) in [("1d", 1), ("2w", 14), ("1mo", 30), ("1y", 365), ("1d24h", 2)] {
            assert_eq!(parse_extended(text), Ok(Duration::from_secs(days * 86_400)), "{text}");
        }
        assert_eq!(parse_extended("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_extended("1.5h"), Ok(Duration::from_secs(5400)));
        for text in ["1.5d", "1d1.5h", "d", "1mon", "1 d"] {
            assert_eq!(parse_extended(text), Err(DurationError), "{text}");
        }
    }

    #[test]
    fn durations_are_formatted_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (250_000_000, "250ms"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500, "1.5µs"),
            (61_000_000_000, "1m1s"),
        ] {
            assert_eq!(format_go(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn formatted_duration_parses_to_the_same_value(seconds in 0..u64::MAX / 4_000, nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_go(&format_go(duration)), Ok(duration));
        }

        #[test]
        fn parsing_never_panics(text in "[0-9.a-zµ]{0,40}") {
            let _ = parse_extended(&text);
        }
    }
}
