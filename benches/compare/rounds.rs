//! Measures every candidate once per round. All other proxies are stopped meanwhile.

use std::path::PathBuf;

use crate::load::{Generator, Load, Task, Traffic};
use crate::machine::Cores;
use crate::measurements::{Measurements, Sample, float};
use crate::procfs::CoreTime;
use crate::resume_guard::ResumeGuard;
use crate::server::Server;
use crate::settings::Settings;

/// Seconds of load before the first round, at most the duration of a measurement. Caches fill, and allocators reach their size.
const FIRST_WARM_UP: u64 = 3;
/// Seconds of load before each measurement.
const WARM_UP: u64 = 1;

/// A candidate: requests of one kind to one server.
pub(crate) struct Candidate {
    pub(crate) name: String,
    /// The index of its server in [`Bench::servers`].
    pub(crate) server: usize,
    /// The file of requests.
    pub(crate) requests: PathBuf,
    pub(crate) traffic: Traffic,
    /// The cores of the load generator: all if the proxy uses all.
    pub(crate) cores: Cores,
    /// Whether the server is expected to reject all requests.
    pub(crate) expect_rejection: bool,
}

/// The servers, the candidates and the load generator.
pub(crate) struct Bench {
    pub(crate) servers: Vec<Server>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) load: Generator,
}

impl Candidate {
    /// A candidate with accepted requests over HTTP/1.1 in clear text, sent as fast as they are answered.
    pub(crate) fn new(name: &str, server: usize, requests: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            server,
            requests,
            traffic: Traffic::Full,
            cores: Cores::Load,
            expect_rejection: false,
        }
    }
}

impl Bench {
    /// Runs all rounds.
    pub(crate) fn run(&self, settings: &Settings) -> Vec<Measurements> {
        let _guard = ResumeGuard::start(self.servers.iter().flat_map(Server::processes));
        self.servers.iter().for_each(Server::stop);
        for candidate in &self.candidates {
            self.while_resumed(candidate, || self.send(candidate, FIRST_WARM_UP.min(settings.seconds)));
        }
        let empty = |candidate: &Candidate| Measurements { name: candidate.name.clone(), rounds: Vec::new() };
        let mut measured: Vec<Measurements> = self.candidates.iter().map(empty).collect();
        for round in 1..=settings.rounds {
            eprintln!("round {round} of {}", settings.rounds);
            for (candidate, measured) in self.candidates.iter().zip(&mut measured) {
                let sample = self.while_resumed(candidate, || {
                    self.send(candidate, WARM_UP);
                    self.measure(candidate, settings.seconds)
                });
                measured.rounds.push(sample);
            }
        }
        measured
    }

    /// Resumes the server of a candidate, performs an action and stops the server again.
    fn while_resumed<T>(&self, candidate: &Candidate, action: impl FnOnce() -> T) -> T {
        let server = &self.servers[candidate.server];
        server.resume();
        let result = action();
        server.stop();
        result
    }

    /// Measures a candidate, whose server is running.
    fn measure(&self, candidate: &Candidate, seconds: u64) -> Sample {
        let server = &self.servers[candidate.server];
        let (cores, cpu) = (core_times(), server.cpu());
        let (authorizer, others) = (server.authorizer_cpu(), self.other_servers_cpu(candidate));
        let load = self.send(candidate, seconds);
        let (used, others_used) = (server.cpu() - cpu, self.other_servers_cpu(candidate) - others);
        let authorizer_used = server.authorizer_cpu().zip(authorizer).map(|(now, earlier)| now - earlier);
        let busy = |which: usize| (candidate.cores != Cores::All).then(|| core_times()[which].busy_since(cores[which]));
        let fraction_of_core = |nanos: u64| float(nanos) / (float(load.micros) * 1000.0);
        Sample {
            cpu_nanos: float(used.nanos) / float(load.requests),
            user_share: used.user_share(),
            authorizer_cpu_nanos: authorizer_used.map(|used| float(used.nanos) / float(load.requests)),
            resident: server.rss(),
            proxy_core_busy: busy(0),
            load_core_busy: busy(1),
            proxy_busy: fraction_of_core(used.nanos),
            others_busy: fraction_of_core(others_used),
            load,
        }
    }

    /// CPU time of all servers except the candidate's, in nanoseconds.
    fn other_servers_cpu(&self, candidate: &Candidate) -> u64 {
        let others = self.servers.iter().enumerate().filter(|(number, _)| *number != candidate.server);
        others.map(|(_, server)| server.cpu().nanos).sum()
    }

    /// Generates load. Prints a warning on unexpected responses and on connection errors, because their CPU cost differs.
    fn send(&self, candidate: &Candidate, seconds: u64) -> Load {
        let load = self.load.run(&Task {
            traffic: candidate.traffic,
            address: &self.servers[candidate.server].address,
            requests: &candidate.requests,
            seconds,
            cores: candidate.cores,
        });
        let expected = if candidate.expect_rejection { load.requests } else { 0 };
        if load.refused != expected || load.broken > 0 {
            eprintln!(
                "{}: {} of {} responses are rejections, expected {expected}; {} connection errors and timeouts",
                candidate.name, load.refused, load.requests, load.broken
            );
        }
        load
    }
}

/// The times of the proxy core and of the load generator's core.
fn core_times() -> [CoreTime; 2] {
    [Cores::Proxy, Cores::Load].map(|cores| CoreTime::of(cores.core_index().unwrap_or_default()))
}
