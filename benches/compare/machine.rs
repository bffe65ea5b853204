//! The machine, the assignment of programs to its cores, and the versions of programs.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::settings::Settings;

/// The core on which proxies with one worker run.
const PROXY_CORE: usize = 0;

/// The cores on which a program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The core of the proxies.
    Proxy,
    /// The core of the load generator and the upstream.
    Load,
    /// All cores.
    All,
}

/// Properties of the machine that the results depend on.
#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
}

/// A measured program or load generator, with its version.
#[derive(Serialize)]
pub(crate) struct Version {
    program: &'static str,
    version: String,
}

impl Cores {
    /// The cores of a proxy with `workers` workers.
    pub(crate) fn of_proxy(workers: usize) -> Self {
        if workers == 1 { Self::Proxy } else { Self::All }
    }

    /// The index of the core; `None` for [`Cores::All`]. On a machine with one core, the load generator and the proxies share it.
    pub(crate) fn core_index(self) -> Option<usize> {
        match self {
            Self::Proxy => Some(PROXY_CORE),
            Self::Load => Some(if cores() > 1 { PROXY_CORE + 1 } else { PROXY_CORE }),
            Self::All => None,
        }
    }

    /// A command that runs a program on these cores. The program receives SIGTERM when this process exits for any reason.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(core) = self.core_index() {
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

/// The properties of this machine.
pub(crate) fn machine() -> Machine {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Machine {
        cpu: model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned()),
        cores: cores(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned(),
    }
}

/// The versions of all programs that are installed.
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

/// The first non-empty line that a program prints to stdout or stderr when called with `argument`, without a leading path, which Envoy
/// prints. `None` if the program cannot be run.
fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let line = printed.lines().map(str::trim).find(|line| !line.is_empty())?;
    let rest = line.split_once(' ').filter(|(first, _)| first.starts_with('/')).map(|(_, rest)| rest.trim_start());
    Some(rest.unwrap_or(line).to_owned())
}

/// Prints the machine, the versions of the programs, and the number and duration of rounds.
pub(crate) fn print_environment(settings: &Settings) {
    let Machine { cpu, cores, kernel } = machine();
    println!("{cpu}, {cores} cores, Linux {kernel}");
    for Version { program, version } in versions(settings) {
        println!("{program}: {version}");
    }
    println!("{} rounds of {} s", settings.rounds, settings.seconds);
    if cores == 1 {
        println!("ONE CORE: load generator, upstream and proxy share it; only CPU per request is meaningful");
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
