//! The machine, its cores, and the programs on it.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::settings::Settings;

/// The core that a proxy with one worker runs on.
const PROXY_CORE: usize = 0;

/// Where a program may run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// On the core of the proxies.
    Proxy,
    /// On the core of the load and the upstream.
    Load,
    /// On all.
    All,
}

/// What figures depend on.
#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
}

/// A program that takes part, and what it says of its version.
#[derive(Serialize)]
pub(crate) struct Version {
    program: &'static str,
    version: String,
}

impl Cores {
    /// The cores of a proxy with this number of workers.
    pub(crate) fn of_proxy(workers: usize) -> Self {
        if workers == 1 { Self::Proxy } else { Self::All }
    }

    /// The core, if it is one; load and proxies share it when there is no other.
    pub(crate) fn number(self) -> Option<usize> {
        match self {
            Self::Proxy => Some(PROXY_CORE),
            Self::Load => Some(if cores() > 1 { PROXY_CORE + 1 } else { PROXY_CORE }),
            Self::All => None,
        }
    }

    /// A command that runs there, and that is asked to end when this process has ended, in whatever way.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(core) = self.number() {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        command.arg(program);
        command
    }
}

/// Whether a program is on the `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
}

/// This machine.
pub(crate) fn machine() -> Machine {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Machine {
        cpu: model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned()),
        cores: cores(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned(),
    }
}

/// The programs that take part.
pub(crate) fn versions(settings: &Settings) -> Vec<Version> {
    let keygate = settings.keygate.to_str().unwrap();
    [
        ("keygate", keygate, "--version"),
        ("nginx", "nginx", "-v"),
        ("haproxy", "haproxy", "-v"),
        ("envoy", "envoy", "--version"),
        ("wrk", "wrk", "-v"),
        ("h2load", "h2load", "--version"),
    ]
    .into_iter()
    .filter_map(|(name, program, argument)| Some(Version { program: name, version: version(program, argument)? }))
    .chain([Version { program: "pingora", version: "0.9.1".to_owned() }])
    .collect()
}

/// The first line of what a program prints about its version; some use the one stream, some the other. The path of the program, with which
/// Envoy begins, is left out.
fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let line = printed.lines().map(str::trim).find(|line| !line.is_empty())?;
    let rest = line.split_once(' ').filter(|(first, _)| first.starts_with('/')).map(|(_, rest)| rest.trim_start());
    Some(rest.unwrap_or(line).to_owned())
}

/// Says what the figures are of.
pub(crate) fn print(settings: &Settings) {
    let Machine { cpu, cores, kernel } = machine();
    println!("{cpu}, {cores} cores, Linux {kernel}");
    for Version { program, version } in versions(settings) {
        println!("{program}: {version}");
    }
    println!("{} rounds of {} s", settings.rounds, settings.seconds);
    if cores == 1 {
        println!("ONE CORE: load, upstream and proxy share it; only CPU per request says something");
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
