//! The range of its order that a search reads from a database.

use super::search::SearchQuery;
use crate::clock::Timestamp;
use crate::key::{EffectiveStatus, OrderValue, SearchOrder};

/// Greater than every id, whose characters are lower-case letters, digits and `-`.
const ABOVE_ALL_IDS: &str = "~";

/// The range of an order that a statement reads: from (`from_text` or `from_time`, `from_id`), exclusive, to `below_text` or `below_time`,
/// exclusive. In an order by id, `from_text` is inclusive and stands for both.
pub(super) struct SearchRange {
    pub(super) from_text: String,
    pub(super) from_time: Timestamp,
    pub(super) from_id: String,
    pub(super) below_text: String,
    pub(super) below_time: Timestamp,
}

impl SearchRange {
    /// The range of a query.
    pub(super) fn of(query: &SearchQuery<'_>) -> Self {
        let (from_text, below_text) = texts(query);
        let (from_time, below_time) = times(query);
        let mut range = Self { from_text, from_time, from_id: String::new(), below_text, below_time };
        if let Some(after) = query.after {
            range.from_id = after.id.to_string();
            match &after.value {
                // Ids of one kind have one length, so no id is between these two.
                None => range.from_text = format!("{} ", range.from_id),
                Some(OrderValue::Text(text)) => range.from_text.clone_from(text),
                Some(OrderValue::Time(time)) => range.from_time = *time,
            }
        }
        range
    }
}

/// The name of a status in statements.
pub(super) fn status_text(status: EffectiveStatus) -> &'static str {
    match status {
        EffectiveStatus::Active => "active",
        EffectiveStatus::Revoked => "revoked",
        EffectiveStatus::Expired => "expired",
    }
}

/// The limits of an order by text.
fn texts(query: &SearchQuery<'_>) -> (String, String) {
    let search = query.search;
    match query.order() {
        SearchOrder::Name => prefix_range(search.name_prefix.as_deref()),
        SearchOrder::Actor => {
            let (from, below) = prefix_range(search.actor_prefix.as_deref());
            let Some(prefixes) = query.actors.prefixes() else { return (from, below) };
            let ranges = prefixes.iter().map(|prefix| prefix_range(Some(prefix)));
            let bounds = ranges.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
            bounds.map_or_else(Default::default, |bounds| (from.max(bounds.0), below.min(bounds.1)))
        }
        _ => match search.key_id_prefix.as_deref() {
            None => (String::new(), ABOVE_ALL_IDS.to_owned()),
            prefix => prefix_range(prefix),
        },
    }
}

/// The limits of an order by time.
fn times(query: &SearchQuery<'_>) -> (Timestamp, Timestamp) {
    let search = query.search;
    if query.order() != SearchOrder::Expiry {
        return (Timestamp::UNIX_EPOCH, search.unused_since.unwrap_or_else(far_future));
    }
    let below = search.expiring_before.unwrap_or_else(far_future);
    match search.state {
        Some(EffectiveStatus::Active) => (query.now, below),
        Some(EffectiveStatus::Expired) => (Timestamp::UNIX_EPOCH, below.min(query.now)),
        Some(EffectiveStatus::Revoked) | None => (Timestamp::UNIX_EPOCH, below),
    }
}

/// The latest time that every database stores.
fn far_future() -> Timestamp {
    Timestamp::from_timestamp(253_402_300_799, 0).unwrap_or(Timestamp::MAX_UTC)
}

/// The texts that begin with a prefix, in the order of their bytes: from the prefix, inclusive, to the returned text, exclusive.
fn prefix_range(prefix: Option<&str>) -> (String, String) {
    let prefix = prefix.unwrap_or_default();
    (prefix.to_owned(), successor(prefix))
}

/// The least text that is greater than every text with this prefix. UTF-8 has the order of the code points.
fn successor(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return text;
        }
    }
    // Longer than every name and every actor.
    char::MAX.to_string().repeat(300)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn range_of_a_prefix_has_exactly_the_texts_that_begin_with_it(
            prefix in "[a-c\u{d7ff}\u{e000}\u{10ffff}]{0,4}",
            text in "[a-d\u{d7ff}\u{e000}\u{10ffff}]{0,6}",
        ) {
            let (from, below) = prefix_range(Some(&prefix));
            prop_assert_eq!(from <= text && text < below, text.starts_with(&prefix));
        }
    }
}
