//! Numbers for people.

/// A count with separators of thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun, such as `1 request` and `2,000 requests`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A short time in milliseconds; a dash if there is none.
pub(super) fn milliseconds(seconds: Option<f64>) -> String {
    match seconds.map(|seconds| seconds * 1000.0) {
        None => "–".to_owned(),
        Some(time) if time < 10.0 => format!("{time:.2} ms"),
        Some(time) => format!("{time:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators_and_times_have_units() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (81_210, "81,210"), (1_000_000, "1,000,000")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((counted(1, "request"), counted(2000, "key")), ("1 request".into(), "2,000 keys".to_owned()));
        assert_eq!(milliseconds(Some(0.000_49)), "0.49 ms");
        assert_eq!((milliseconds(Some(0.25)), milliseconds(None)), ("250 ms".into(), "–".to_owned()));
    }
}
