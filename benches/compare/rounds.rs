//! The measurement: every candidate once a round, all of them running all the time.

use std::path::PathBuf;

use serde::Serialize;

use crate::cpu::CoreTime;
use crate::load::{Generator, Load};
use crate::machine::{PROXY_CORE, load_core};
use crate::server::Server;
use crate::settings::Settings;
use crate::statistics::median;

/// Seconds of load before the first round: caches fill, allocators find their size.
const FIRST_WARM_UP: u64 = 3;
/// Seconds of load before each measurement.
const WARM_UP: u64 = 1;

/// Something that is measured: requests of one kind to one server.
pub(crate) struct Candidate {
    pub(crate) name: String,
    /// Of [`Bench::servers`].
    pub(crate) server: usize,
    /// What is sent.
    pub(crate) requests: PathBuf,
    /// Whether all of it is to be refused.
    pub(crate) refused: bool,
}

/// What is measured, and with what.
pub(crate) struct Bench {
    pub(crate) servers: Vec<Server>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) load: Generator,
}

/// One measurement.
#[derive(Serialize)]
pub(crate) struct Sample {
    load: Load,
    /// CPU time of the proxy for each request, in nanoseconds, with that of its authorizer.
    cpu_nanos: f64,
    /// The part of it in user mode, 0 to 1.
    user_share: f64,
    /// The part of `cpu_nanos` that the authorizer used; `None` without an authorizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer_cpu_nanos: Option<f64>,
    /// Memory of the proxy afterwards, in bytes.
    resident: u64,
    /// What the proxy itself used of its core, 0 to 1.
    proxy_busy: f64,
    /// How busy the cores were, by whatever ran on them, 0 to 1.
    proxy_core_busy: f64,
    load_core_busy: f64,
    /// What the other servers used meanwhile, of one core, 0 to 1.
    others_busy: f64,
}

/// All measurements of a candidate, in the order of the rounds.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Sample>,
}

impl Bench {
    /// Measures every candidate, round after round.
    pub(crate) fn run(&self, settings: &Settings) -> Vec<Measured> {
        for candidate in &self.candidates {
            self.send(candidate, FIRST_WARM_UP);
        }
        let empty = |candidate: &Candidate| Measured { name: candidate.name.clone(), rounds: Vec::new() };
        let mut measured: Vec<Measured> = self.candidates.iter().map(empty).collect();
        for round in 1..=settings.rounds {
            eprintln!("round {round} of {}", settings.rounds);
            for (candidate, measured) in self.candidates.iter().zip(&mut measured) {
                self.send(candidate, WARM_UP);
                measured.rounds.push(self.measure(candidate, settings.seconds));
            }
        }
        measured
    }

    fn measure(&self, candidate: &Candidate, seconds: u64) -> Sample {
        let server = &self.servers[candidate.server];
        let (cores, cpu, authorizer, others) = (cores(), server.cpu(), server.authorizer_cpu(), self.others(candidate));
        let load = self.send(candidate, seconds);
        let (used, others_used) = (server.cpu() - cpu, self.others(candidate) - others);
        let authorizer_used = server.authorizer_cpu().zip(authorizer).map(|(now, earlier)| now - earlier);
        let [proxy_core_busy, load_core_busy] = [0, 1].map(|which| self::cores()[which].busy_since(cores[which]));
        let of_core = |nanos: u64| float(nanos) / (float(load.micros) * 1000.0);
        Sample {
            cpu_nanos: float(used.nanos) / float(load.requests),
            user_share: used.user_share(),
            authorizer_cpu_nanos: authorizer_used.map(|used| float(used.nanos) / float(load.requests)),
            resident: server.resident(),
            proxy_core_busy,
            load_core_busy,
            proxy_busy: of_core(used.nanos),
            others_busy: of_core(others_used),
            load,
        }
    }

    /// CPU time of all servers but the candidate's, in nanoseconds.
    fn others(&self, candidate: &Candidate) -> u64 {
        let others = self.servers.iter().enumerate().filter(|(number, _)| *number != candidate.server);
        others.map(|(_, server)| server.cpu().nanos).sum()
    }

    /// Sends load, and sees that it is answered as it should be: another answer costs something else.
    fn send(&self, candidate: &Candidate, seconds: u64) -> Load {
        let load = self.load.run(&self.servers[candidate.server].address, &candidate.requests, seconds);
        let refused = if candidate.refused { load.requests } else { 0 };
        if load.refused != refused || load.broken > 0 {
            eprintln!(
                "{}: of {} answers {} were refusals where {refused} should be; {} connections broke or waited in vain",
                candidate.name, load.requests, load.refused, load.broken
            );
        }
        load
    }
}

impl Measured {
    /// The median over the rounds.
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
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
    pub(crate) fn latencies(&self) -> [f64; 2] {
        [self.median(|sample| float(sample.load.p50_micros)), self.median(|sample| float(sample.load.p99_micros))]
    }

    /// Memory of the proxy, in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.median(|sample| float(sample.resident)) / f64::from(1 << 20)
    }

    /// How busy the proxy was, and the core of the load, 0 to 1.
    pub(crate) fn busy(&self) -> [f64; 2] {
        [self.median(|sample| sample.proxy_busy), self.median(|sample| sample.load_core_busy)]
    }

    /// What of the proxies' core went to programs that do not take part, 0 to 1, for each round.
    pub(crate) fn strangers(&self) -> impl Iterator<Item = f64> + '_ {
        let known = |sample: &Sample| sample.proxy_busy + sample.others_busy;
        self.rounds.iter().map(move |sample| (sample.proxy_core_busy - known(sample)).max(0.0))
    }

    /// What the idle servers took at the most, of one core, 0 to 1.
    pub(crate) fn others_busy(&self) -> f64 {
        self.rounds.iter().map(|sample| sample.others_busy).fold(0.0, f64::max)
    }

    /// CPU time of the one ÷ CPU time of the other, for each round: what the machine did meanwhile hits both.
    pub(crate) fn ratios<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = f64> + 'a {
        self.rounds.iter().zip(&other.rounds).map(|(one, other)| one.cpu_nanos / other.cpu_nanos)
    }
}

fn cores() -> [CoreTime; 2] {
    [PROXY_CORE, load_core()].map(CoreTime::of)
}

#[expect(clippy::cast_precision_loss, reason = "far from the edge")]
fn float(number: u64) -> f64 {
    number as f64
}
