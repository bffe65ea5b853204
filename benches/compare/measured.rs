//! What came out of the rounds.

use serde::Serialize;

use crate::load::Load;
use crate::statistics::median;

/// One measurement.
#[derive(Serialize)]
pub(crate) struct Sample {
    pub(crate) load: Load,
    /// CPU time of the proxy for each request, in nanoseconds, with that of its authorizer.
    pub(crate) cpu_nanos: f64,
    /// The part of it in user mode, 0 to 1.
    pub(crate) user_share: f64,
    /// The part of `cpu_nanos` that the authorizer used; `None` without an authorizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorizer_cpu_nanos: Option<f64>,
    /// Memory of the proxy afterwards, in bytes.
    pub(crate) resident: u64,
    /// What the proxy itself used, of one core.
    pub(crate) proxy_busy: f64,
    /// How busy the cores were, by whatever ran on them, 0 to 1; `None` if proxy and load shared them.
    pub(crate) proxy_core_busy: Option<f64>,
    pub(crate) load_core_busy: Option<f64>,
    /// What the other servers used meanwhile, of one core, 0 to 1.
    pub(crate) others_busy: f64,
}

/// All measurements of a candidate, in the order of the rounds.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Sample>,
}

/// What candidates are compared by.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    /// CPU time for each request.
    Cpu,
    /// Latencies.
    P50,
    P99,
}

impl Figure {
    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Cpu => Some(sample.cpu_nanos),
            Self::P50 => sample.load.p50_micros,
            Self::P99 => sample.load.p99_micros,
        }
    }

    /// What a ratio of it begins with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::P50 => "p50: ",
            Self::P99 => "p99: ",
        }
    }
}

impl Measured {
    /// The median over the rounds.
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    /// The same of what some clients do not tell.
    fn known_median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        Some(median(self.rounds.iter().map(of).collect::<Option<Vec<f64>>>()?))
    }

    /// Requests answered in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.median(|sample| float(sample.load.requests) / float(sample.load.micros) * 1e6)
    }

    /// CPU time of the proxy for each request, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.median(|sample| sample.cpu_nanos / 1000.0)
    }

    /// CPU time of the proxy and of its authorizer for each request, in microseconds; `None` without an authorizer.
    pub(crate) fn split_cpu_micros(&self) -> Option<[f64; 2]> {
        let split = |sample: &Sample| {
            let authorizer = sample.authorizer_cpu_nanos?;
            Some([(sample.cpu_nanos - authorizer) / 1000.0, authorizer / 1000.0])
        };
        let rounds: Vec<[f64; 2]> = self.rounds.iter().map(split).collect::<Option<_>>()?;
        Some([0, 1].map(|which| median(rounds.iter().map(|round| round[which]))))
    }

    /// The part of [`Measured::cpu_micros`] in user mode.
    pub(crate) fn user_micros(&self) -> f64 {
        self.median(|sample| sample.cpu_nanos / 1000.0 * sample.user_share)
    }

    /// Latencies in microseconds: the median and the 99th percentile.
    pub(crate) fn latencies(&self) -> [Option<f64>; 2] {
        [Figure::P50, Figure::P99].map(|figure| self.known_median(|sample| figure.of(sample)))
    }

    /// Memory of the proxy, in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.median(|sample| float(sample.resident)) / f64::from(1 << 20)
    }

    /// How busy the proxy was, of one core, and the core of the load, 0 to 1.
    pub(crate) fn busy(&self) -> [Option<f64>; 2] {
        [self.known_median(|sample| Some(sample.proxy_busy)), self.known_median(|sample| sample.load_core_busy)]
    }

    /// What of the proxies' core went to programs that do not take part, 0 to 1, for each round in which that is known.
    pub(crate) fn strangers(&self) -> impl Iterator<Item = f64> + '_ {
        let known = |sample: &Sample| sample.proxy_busy + sample.others_busy;
        self.rounds.iter().filter_map(move |sample| Some((sample.proxy_core_busy? - known(sample)).max(0.0)))
    }

    /// What the stopped servers took at the most, of one core, 0 to 1.
    pub(crate) fn others_busy(&self) -> f64 {
        self.rounds.iter().map(|sample| sample.others_busy).fold(0.0, f64::max)
    }

    /// The figure of the one ÷ that of the other, for each round: what the machine did meanwhile affects both.
    pub(crate) fn ratios<'a>(&'a self, other: &'a Self, figure: Figure) -> impl Iterator<Item = Option<f64>> + 'a {
        let rounds = self.rounds.iter().zip(&other.rounds);
        rounds.map(move |(one, other)| Some(figure.of(one)? / figure.of(other)?))
    }

    /// The median of [`Measured::ratios`] of CPU time.
    pub(crate) fn cpu_ratio(&self, other: &Self) -> f64 {
        median(self.cpu_ratios(other))
    }

    pub(crate) fn cpu_ratios<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = f64> + 'a {
        self.ratios(other, Figure::Cpu).flatten()
    }
}

#[expect(clippy::cast_precision_loss, reason = "far from the edge")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
