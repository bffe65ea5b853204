//! Rate limits as response fields: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), `Retry-After`, and
//! the legacy `X-RateLimit-*` fields.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ratelimit::{NamedLimit, Outcome};

/// The quotas.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What remains of the quotas.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The quota of the most restrictive limit.
pub const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// What remains of that quota.
pub const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// Seconds until that quota is fully replenished.
pub const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Room for the text of one limit, usually.
const TEXT: usize = 64;

/// The largest integer of structured fields (RFC 9651 section 3.3.1).
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// `"default";q=100;w=60, "burst";q=5;w=1`: quotas, and windows in seconds. `None` without a limit.
pub fn policy<'a>(limits: impl IntoIterator<Item = &'a NamedLimit>) -> Option<HeaderValue> {
    let items = limits.into_iter().map(|named| {
        let (quota, window) = (named.limit.quota().get(), seconds(named.limit.window()));
        (&*named.name, [(";q=", quota), (";w=", window)])
    });
    list(items)
}

/// `"default";r=42;t=17, "burst";r=5;t=0`: what remains, and seconds until the quota is fully replenished. `None` without a limit.
pub fn state<'a>(
    limits: impl IntoIterator<Item = &'a NamedLimit>,
    outcomes: impl IntoIterator<Item = &'a Outcome>,
) -> Option<HeaderValue> {
    let items = limits.into_iter().zip(outcomes).map(|(named, outcome)| {
        let (remaining, reset) = (outcome.remaining, seconds(outcome.reset()));
        (&*named.name, [(";r=", remaining), (";t=", reset)])
    });
    list(items)
}

/// `Retry-After` in whole seconds, rounded up, at least one; `None` for an infinite wait.
pub fn retry_after(wait: Duration) -> Option<HeaderValue> {
    (wait < Duration::MAX).then(|| seconds(wait).max(1).into())
}

/// Sets the fields for limits and their outcomes, and `Retry-After` if there is a wait.
pub fn describe(headers: &mut HeaderMap, limits: &[NamedLimit], outcomes: &[Outcome], wait: Option<Duration>) {
    let fields = [
        (RATE_LIMIT_POLICY, policy(limits)),
        (RATE_LIMIT, state(limits, outcomes)),
        (RETRY_AFTER, wait.and_then(retry_after)),
    ];
    for (name, value) in fields {
        value.map(|value| headers.insert(name, value));
    }
}

/// The values of the legacy fields limit, remaining and reset. They describe one limit: the one with the longest wait, then the
/// fewest remaining requests. `None` without a limit.
pub fn legacy_fields<'a>(
    limits: impl IntoIterator<Item = &'a NamedLimit>,
    outcomes: impl IntoIterator<Item = &'a Outcome>,
) -> Option<[HeaderValue; 3]> {
    let restriction =
        |(_, outcome): &(&NamedLimit, &Outcome)| (std::cmp::Reverse(outcome.retry_after), outcome.remaining);
    let (named, outcome) = limits.into_iter().zip(outcomes).min_by_key(restriction)?;
    Some([named.limit.quota().get().into(), outcome.remaining.into(), seconds(outcome.reset()).into()])
}

/// A list of strings with integer parameters (RFC 9651). A parameter key includes its punctuation.
fn list<'a>(items: impl Iterator<Item = (&'a str, [(&'static str, u64); 2])>) -> Option<HeaderValue> {
    let mut text = Vec::new();
    let mut digits = itoa::Buffer::new();
    for (name, parameters) in items {
        text.reserve(TEXT);
        text.extend_from_slice(if text.is_empty() { b"\"" } else { b", \"" });
        push_string(&mut text, name);
        text.push(b'"');
        for (key, value) in parameters {
            text.extend_from_slice(key.as_bytes());
            text.extend_from_slice(digits.format(value.min(INTEGER_MAX)).as_bytes());
        }
    }
    if text.is_empty() { None } else { HeaderValue::from_maybe_shared(Bytes::from(text)).ok() }
}

/// Appends the characters that a quoted string may contain, escaped; others become `_`.
fn push_string(text: &mut Vec<u8>, name: &str) {
    if name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        return text.extend_from_slice(name.as_bytes());
    }
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend_from_slice(if character == '"' { b"\\\"" } else { b"\\\\" }),
            ' '..='~' => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => text.push(b'_'),
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::sync::Arc;

    use proptest::prelude::*;
    use sfv::{BareItem, List, ListEntry, Parser};

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::id::TenantId;
    use crate::ratelimit::{BucketOwner, Charge, Decision, Limit, Local};

    fn named(name: &str, quota: u64, window: Duration) -> NamedLimit {
        NamedLimit { name: name.into(), limit: Limit::new(NonZeroU64::new(quota).unwrap(), window) }
    }

    /// The decision of a new limiter about the last of `times` requests, one second apart.
    fn decide(limits: &[NamedLimit], times: u32, cost: u64) -> Decision {
        let clock = Arc::new(ManualClock::new(Timestamp::from_timestamp(1_800_000_000, 0).unwrap()));
        let local = Local::new(1, clock.clone());
        let request = Charge { owner: BucketOwner::Tenant(TenantId::NIL), limits, cost };
        for _ in 1..times {
            local.charge(&request);
            clock.advance(Duration::from_secs(1));
        }
        local.charge(&request)
    }

    fn shown(limits: &[NamedLimit], decision: &Decision) -> String {
        let mut headers = HeaderMap::new();
        let wait = (!decision.admitted).then(|| decision.retry_after());
        describe(&mut headers, limits, &decision.outcomes, wait);
        let names = [X_RATE_LIMIT_LIMIT, X_RATE_LIMIT_REMAINING, X_RATE_LIMIT_RESET];
        let legacy = legacy_fields(limits, &decision.outcomes);
        headers.extend(names.into_iter().zip(legacy.into_iter().flatten()));
        let lines = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn one_limit_is_described() {
        let limits = [named("default", 100, Duration::from_secs(60))];
        insta::assert_snapshot!(shown(&limits, &decide(&limits, 2, 30)), @r#"
        ratelimit-policy: "default";q=100;w=60
        ratelimit: "default";r=41;t=35
        x-ratelimit-limit: 100
        x-ratelimit-remaining: 41
        x-ratelimit-reset: 35
        "#);
    }

    #[test]
    fn legacy_fields_describe_the_exceeded_limit() {
        let limits = [named("default", 100, Duration::from_secs(60)), named("burst", 2, Duration::from_secs(5))];
        insta::assert_snapshot!(shown(&limits, &decide(&limits, 3, 1)), @r#"
        ratelimit-policy: "default";q=100;w=60, "burst";q=2;w=5
        ratelimit: "default";r=100;t=0, "burst";r=0;t=3
        retry-after: 1
        x-ratelimit-limit: 2
        x-ratelimit-remaining: 0
        x-ratelimit-reset: 3
        "#);
    }

    #[test]
    fn cost_above_the_quota_has_no_retry_after() {
        let limits = [named("default", 5, Duration::from_secs(60))];
        let text = shown(&limits, &decide(&limits, 1, 6));
        assert!(!text.contains("retry-after") && text.contains("r=5;t=0"), "{text}");
    }

    #[test]
    fn without_limits_there_are_no_fields() {
        assert_eq!(shown(&[], &decide(&[], 1, 1)), "");
    }

    #[test]
    fn retry_after_is_rounded_up() {
        for (micros, text) in [(1, "1"), (999_999, "1"), (1_000_000, "1"), (1_000_001, "2"), (59_999_999, "60")] {
            assert_eq!(retry_after(Duration::from_micros(micros)).unwrap(), text);
        }
        assert_eq!(retry_after(Duration::ZERO).unwrap(), "1");
        assert_eq!(retry_after(Duration::MAX), None);
    }

    /// The items of a structured list, parsed by another library.
    fn read(value: &HeaderValue) -> Vec<(String, Vec<(String, i64)>)> {
        let list: List = Parser::new(value.as_bytes()).parse().unwrap();
        let item = |entry: ListEntry| {
            let ListEntry::Item(item) = entry else { panic!("{entry:?} is no item") };
            let BareItem::String(name) = item.bare_item else { panic!("{:?} is no string", item.bare_item) };
            let number = |value: BareItem| i64::from(value.as_integer().unwrap());
            let parameters = item.params.into_iter().map(|(key, value)| (key.to_string(), number(value)));
            (name.to_string(), parameters.collect())
        };
        list.into_iter().map(item).collect()
    }

    proptest! {
        #[test]
        fn both_fields_are_structured_lists(
            limits in prop::collection::vec(("[ -~]{0,12}", 1..u64::MAX, any::<u64>()), 1..4),
        ) {
            let limits = limits.into_iter().enumerate().map(|(index, (name, quota, window))| {
                named(&format!("{index}{name}"), quota, Duration::from_secs(window))
            });
            let limits: Vec<_> = limits.collect();
            let decision = decide(&limits, 1, 1);
            let small = |number: u64| i64::try_from(number.min(INTEGER_MAX)).unwrap();
            let item = |named: &NamedLimit, keys: [&str; 2], numbers: [u64; 2]| {
                let parameters = keys.iter().zip(numbers).map(|(key, number)| ((*key).to_owned(), small(number)));
                (named.name.to_string(), parameters.collect::<Vec<_>>())
            };
            let policies = limits.iter().map(|named| {
                item(named, ["q", "w"], [named.limit.quota().get(), seconds(named.limit.window())])
            });
            prop_assert_eq!(read(&policy(&limits).unwrap()), policies.collect::<Vec<_>>());
            let states = limits.iter().zip(&decision.outcomes).map(|(named, outcome)| {
                item(named, ["r", "t"], [outcome.remaining, seconds(outcome.reset())])
            });
            prop_assert_eq!(read(&state(&limits, &decision.outcomes).unwrap()), states.collect::<Vec<_>>());
        }

        #[test]
        fn any_name_yields_a_valid_field(name in any::<String>()) {
            let items = read(&policy(&[named(&name, 1, Duration::from_secs(1))]).unwrap());
            prop_assert_eq!(items[0].0.chars().count(), name.chars().count());
        }
    }
}
