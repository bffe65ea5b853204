//! The measurement: every candidate once a round. The proxies that are not being measured are stopped.

use std::path::PathBuf;

use crate::cpu::CoreTime;
use crate::keeper::Keeper;
use crate::load::{Generator, Load, Task, Traffic};
use crate::machine::Cores;
use crate::measured::{Measured, Sample, float};
use crate::server::Server;
use crate::settings::Settings;

/// Seconds of load before the first round, unless measurements are shorter: caches fill, allocators find their size.
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
    pub(crate) traffic: Traffic,
    /// Where the client runs; on all cores if the proxy does.
    pub(crate) cores: Cores,
    /// Whether all of it is to be refused.
    pub(crate) refused: bool,
}

/// What is measured, and with what.
pub(crate) struct Bench {
    pub(crate) servers: Vec<Server>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) load: Generator,
}

impl Candidate {
    /// One with requests that are answered over HTTP/1.1, as fast as they are.
    pub(crate) fn new(name: &str, server: usize, requests: PathBuf) -> Self {
        Self { name: name.to_owned(), server, requests, traffic: Traffic::Full, cores: Cores::Load, refused: false }
    }
}

impl Bench {
    /// Measures every candidate, round after round.
    pub(crate) fn run(&self, settings: &Settings) -> Vec<Measured> {
        let _keeper = Keeper::start(self.servers.iter().flat_map(Server::processes));
        self.servers.iter().for_each(Server::stop);
        for candidate in &self.candidates {
            self.while_running(candidate, || self.send(candidate, FIRST_WARM_UP.min(settings.seconds)));
        }
        let empty = |candidate: &Candidate| Measured { name: candidate.name.clone(), rounds: Vec::new() };
        let mut measured: Vec<Measured> = self.candidates.iter().map(empty).collect();
        for round in 1..=settings.rounds {
            eprintln!("round {round} of {}", settings.rounds);
            for (candidate, measured) in self.candidates.iter().zip(&mut measured) {
                let sample = self.while_running(candidate, || {
                    self.send(candidate, WARM_UP);
                    self.measure(candidate, settings.seconds)
                });
                measured.rounds.push(sample);
            }
        }
        measured
    }

    /// Resumes the server of a candidate for as long as something takes.
    fn while_running<T>(&self, candidate: &Candidate, action: impl FnOnce() -> T) -> T {
        let server = &self.servers[candidate.server];
        server.resume();
        let result = action();
        server.stop();
        result
    }

    fn measure(&self, candidate: &Candidate, seconds: u64) -> Sample {
        let server = &self.servers[candidate.server];
        let (cores, cpu, authorizer, others) = (cores(), server.cpu(), server.authorizer_cpu(), self.others(candidate));
        let load = self.send(candidate, seconds);
        let (used, others_used) = (server.cpu() - cpu, self.others(candidate) - others);
        let authorizer_used = server.authorizer_cpu().zip(authorizer).map(|(now, earlier)| now - earlier);
        let busy =
            |which: usize| (candidate.cores != Cores::All).then(|| self::cores()[which].busy_since(cores[which]));
        let of_core = |nanos: u64| float(nanos) / (float(load.micros) * 1000.0);
        Sample {
            cpu_nanos: float(used.nanos) / float(load.requests),
            user_share: used.user_share(),
            authorizer_cpu_nanos: authorizer_used.map(|used| float(used.nanos) / float(load.requests)),
            resident: server.resident(),
            proxy_core_busy: busy(0),
            load_core_busy: busy(1),
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
        let load = self.load.run(&Task {
            traffic: candidate.traffic,
            address: &self.servers[candidate.server].address,
            requests: &candidate.requests,
            seconds,
            cores: candidate.cores,
        });
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

fn cores() -> [CoreTime; 2] {
    [Cores::Proxy, Cores::Load].map(|cores| CoreTime::of(cores.number().unwrap_or_default()))
}
