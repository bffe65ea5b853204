//! The measurements of candidates, and the figures computed from them.

use serde::Serialize;

use crate::load::Load;
use crate::statistics::median;

/// A measurement of a candidate in one round.
#[derive(Serialize)]
pub(crate) struct Sample {
    /// The result of the load generator.
    pub(crate) load: Load,
    /// CPU time of the proxy and its authorizer per request, in nanoseconds.
    pub(crate) cpu_nanos: f64,
    /// The fraction of it in user mode, 0 to 1.
    pub(crate) user_share: f64,
    /// The part of `cpu_nanos` that the authorizer used. `None` if there is no authorizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorizer_cpu_nanos: Option<f64>,
    /// RSS of the proxy and its authorizer after the load, in bytes.
    pub(crate) resident: u64,
    /// CPU time of the proxy and its authorizer, as a fraction of one core. It exceeds 1 if more than one core is used.
    pub(crate) proxy_busy: f64,
    /// Utilization of the proxy core by all programs, 0 to 1. `None` if the proxy and the load generator run on all cores.
    pub(crate) proxy_core_busy: Option<f64>,
    /// The same for the core of the load generator.
    pub(crate) load_core_busy: Option<f64>,
    /// CPU time of the other servers, which are stopped, as a fraction of one core.
    pub(crate) others_busy: f64,
}

/// All measurements of a candidate, in the order of the rounds.
#[derive(Serialize)]
pub(crate) struct Measurements {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Sample>,
}

/// A metric by which candidates are compared.
#[derive(Clone, Copy)]
pub(crate) enum Metric {
    /// CPU time per request.
    Cpu,
    /// The median latency.
    P50,
    /// The 99th percentile of the latency.
    P99,
}

impl Metric {
    /// The value in a sample. `None` if the load generator does not report it.
    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Cpu => Some(sample.cpu_nanos),
            Self::P50 => sample.load.p50_micros,
            Self::P99 => sample.load.p99_micros,
        }
    }

    /// The prefix of the names of ratios of this metric.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::P50 => "p50: ",
            Self::P99 => "p99: ",
        }
    }
}

impl Measurements {
    /// The median of a value over the rounds.
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    /// The median of a value over the rounds. `None` if the value is absent in a round.
    fn optional_median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        Some(median(self.rounds.iter().map(of).collect::<Option<Vec<f64>>>()?))
    }

    /// Responses per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.median(|sample| float(sample.load.requests) / float(sample.load.micros) * 1e6)
    }

    /// CPU time of the proxy and its authorizer per request, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.median(|sample| sample.cpu_nanos / 1000.0)
    }

    /// CPU time per request of the proxy and of its authorizer, in microseconds. `None` if there is no authorizer.
    pub(crate) fn split_cpu_micros(&self) -> Option<[f64; 2]> {
        let split = |sample: &Sample| {
            let authorizer = sample.authorizer_cpu_nanos?;
            Some([(sample.cpu_nanos - authorizer) / 1000.0, authorizer / 1000.0])
        };
        let rounds: Vec<[f64; 2]> = self.rounds.iter().map(split).collect::<Option<_>>()?;
        Some([0, 1].map(|which| median(rounds.iter().map(|round| round[which]))))
    }

    /// The part of [`Measurements::cpu_micros`] in user mode.
    pub(crate) fn user_micros(&self) -> f64 {
        self.median(|sample| sample.cpu_nanos / 1000.0 * sample.user_share)
    }

    /// The median and the 99th percentile of the latency, in microseconds. `None` if the load generator does not report them.
    pub(crate) fn latencies(&self) -> [Option<f64>; 2] {
        [Metric::P50, Metric::P99].map(|metric| self.optional_median(|sample| metric.of(sample)))
    }

    /// RSS of the proxy and its authorizer, in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.median(|sample| float(sample.resident)) / f64::from(1 << 20)
    }

    /// CPU time of the proxy and its authorizer as a fraction of one core, and the utilization of the load generator's core.
    pub(crate) fn busy(&self) -> [Option<f64>; 2] {
        [self.optional_median(|sample| Some(sample.proxy_busy)), self.optional_median(|sample| sample.load_core_busy)]
    }

    /// The fraction of the proxy core that programs outside the benchmark used, 0 to 1, in each round in which it is known.
    pub(crate) fn unrelated_busy(&self) -> impl Iterator<Item = f64> + '_ {
        let servers = |sample: &Sample| sample.proxy_busy + sample.others_busy;
        self.rounds.iter().filter_map(move |sample| Some((sample.proxy_core_busy? - servers(sample)).max(0.0)))
    }

    /// The maximum CPU time of the other servers over the rounds, as a fraction of one core.
    pub(crate) fn max_others_busy(&self) -> f64 {
        self.rounds.iter().map(|sample| sample.others_busy).fold(0.0, f64::max)
    }

    /// The metric divided by that of `baseline`, in each round. Other load on the machine affects both values of a round.
    pub(crate) fn ratios<'a>(&'a self, baseline: &'a Self, metric: Metric) -> impl Iterator<Item = Option<f64>> + 'a {
        let rounds = self.rounds.iter().zip(&baseline.rounds);
        rounds.map(move |(sample, baseline)| Some(metric.of(sample)? / metric.of(baseline)?))
    }

    /// The median of [`Measurements::cpu_ratios`].
    pub(crate) fn cpu_ratio(&self, baseline: &Self) -> f64 {
        median(self.cpu_ratios(baseline))
    }

    /// [`Measurements::ratios`] of CPU time per request.
    pub(crate) fn cpu_ratios<'a>(&'a self, baseline: &'a Self) -> impl Iterator<Item = f64> + 'a {
        self.ratios(baseline, Metric::Cpu).flatten()
    }
}

#[expect(clippy::cast_precision_loss, reason = "the values are far below 2^52")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
