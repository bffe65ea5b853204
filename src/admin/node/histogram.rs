//! Quantiles of histograms of the metrics registry.

use prometheus::proto;
use serde::Serialize;
use utoipa::ToSchema;

/// The observations of a histogram: upper bounds in ascending order, each with the number of observations up to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Buckets {
    bounds: Vec<(f64, u64)>,
    count: u64,
}

/// Quantiles in seconds, interpolated within the buckets of the histogram. Absent without observations.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::admin) struct Quantiles {
    /// The number of observations.
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    p90: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    p99: Option<f64>,
}

impl Buckets {
    /// Adds the observations of a histogram with the same bounds.
    pub(super) fn add(&mut self, histogram: &proto::Histogram) {
        self.count += histogram.get_sample_count();
        for (index, bucket) in histogram.get_bucket().iter().enumerate() {
            match self.bounds.get_mut(index) {
                Some((_, count)) => *count += bucket.cumulative_count(),
                None => self.bounds.push((bucket.upper_bound(), bucket.cumulative_count())),
            }
        }
    }

    /// The observations since an earlier state.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |index: usize| earlier.bounds.get(index).map_or(0, |(_, count)| *count);
        let bounds = self.bounds.iter().enumerate();
        Self {
            bounds: bounds.map(|(index, (bound, count))| (*bound, count.saturating_sub(before(index)))).collect(),
            count: self.count.saturating_sub(earlier.count),
        }
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| self.quantile(share));
        Quantiles { count: self.count, p50, p90, p99 }
    }

    /// The value that this share of the observations does not exceed. Above the highest bound it is that bound.
    fn quantile(&self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = share * float(self.count);
        let (mut lower, mut below) = (0.0, 0);
        for (bound, count) in &self.bounds {
            if float(*count) >= rank && *count > below {
                let position = (rank - float(below)) / float(count - below);
                return Some(lower + (bound - lower) * position);
            }
            (lower, below) = (*bound, *count);
        }
        Some(lower)
    }
}

/// A count of observations in a minute.
fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(bounds: &[(f64, u64)], count: u64) -> Buckets {
        Buckets { bounds: bounds.to_vec(), count }
    }

    #[test]
    fn quantiles_are_interpolated() {
        let all = buckets(&[(0.1, 50), (0.2, 100), (1.0, 100)], 100);
        let Quantiles { count, p50, p90, p99 } = all.quantiles();
        assert_eq!((count, p50), (100, Some(0.1)));
        assert!((p90.unwrap() - 0.18).abs() < 1e-9 && (p99.unwrap() - 0.198).abs() < 1e-9, "{p90:?} {p99:?}");
        assert_eq!(buckets(&[(0.1, 0)], 4).quantile(0.5), Some(0.1), "above the highest bound");
        assert_eq!(buckets(&[(0.1, 0)], 0).quantile(0.5), None);
    }

    #[test]
    fn observations_since_an_earlier_state_are_their_difference() {
        let (earlier, later) = (buckets(&[(0.1, 1), (1.0, 2)], 3), buckets(&[(0.1, 1), (1.0, 5)], 7));
        assert_eq!(later.since(&earlier), buckets(&[(0.1, 0), (1.0, 3)], 4));
        assert_eq!(later.since(&Buckets::default()), later);
    }
}
