//! Which requests are refused because there are too many. A request that is refused early costs less than one that fails late.

use super::request_metrics::Metrics;
use crate::config::OverloadConfig;
use crate::wire::Rejection;

/// Requests whose key is in the cache are refused at this multiple of the limit: they are of clients that are known, and cost no lookup.
const SPARED: i64 = 2;

/// The limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overload {
    max_in_flight: Option<u32>,
}

impl Overload {
    pub(super) fn new(config: OverloadConfig) -> Self {
        Self { max_in_flight: config.max_in_flight }
    }

    /// Whether a request is processed, which counts as in flight already.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`], which is counted.
    pub(super) fn check(self, is_key_known: bool, metrics: &Metrics) -> Result<(), Rejection> {
        let factor = if is_key_known { SPARED } else { 1 };
        match self.max_in_flight {
            Some(max) if metrics.in_flight() > i64::from(max) * factor => {
                metrics.count_shed("in_flight");
                Err(Rejection::Overloaded)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn known_keys_are_refused_at_twice_the_limit() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let overload = Overload::new(OverloadConfig { max_in_flight: Some(2) });
        let mut begun = Vec::new();
        for (in_flight, unknown, known) in
            [(1, true, true), (2, true, true), (3, false, true), (4, false, true), (5, false, false)]
        {
            begun.push(metrics.begin());
            let outcome = [false, true].map(|is_known| overload.check(is_known, &metrics).is_ok());
            assert_eq!(outcome, [unknown, known], "{in_flight}");
        }
        let unlimited = Overload::new(OverloadConfig::default());
        assert!(unlimited.check(false, &metrics).is_ok(), "there is no limit by default");
    }
}
