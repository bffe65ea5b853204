//! The field `Date` of responses that arrived without it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::protocols::http::date::get_cached_date;

use super::head_writer::HeadWriter;

/// How long a date is used. The field has whole seconds, so it may be late by this much.
const KEPT: Duration = Duration::from_millis(50);

/// A date, and how long it is used.
struct Date {
    text: HeaderValue,
    until: Instant,
}

thread_local! {
    /// The last date of this thread, so that the wall clock is not read for each response.
    static LAST: RefCell<Option<Date>> = const { RefCell::new(None) };
}

/// Writes the date of a response that arrived at `now`.
pub(super) fn put_date(out: &mut HeadWriter, now: Instant) {
    LAST.with_borrow_mut(|last| {
        let date = match last {
            Some(date) if now < date.until => date,
            last => last.insert(Date { text: get_cached_date(), until: now + KEPT }),
        };
        out.put_field("Date", date.text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(now: Instant) -> String {
        let mut out = HeadWriter::with_capacity(100);
        put_date(&mut out, now);
        String::from_utf8(out.finish().to_vec()).unwrap()
    }

    #[test]
    fn date_is_read_again_after_a_while() {
        let now = Instant::now();
        let first = date(now);
        assert!(first.starts_with("Date: ") && first.ends_with(" GMT\r\n"), "{first}");
        LAST.with_borrow_mut(|last| last.as_mut().unwrap().text = HeaderValue::from_static("kept"));
        assert_eq!(date(now + KEPT / 2), "Date: kept\r\n");
        assert!(date(now + KEPT).ends_with(" GMT\r\n"));
    }
}
