//! Settings from environment variables.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::comparisons::PARTS;
use crate::support::keygate::BINARY;

/// The default of `ROUNDS`.
const DEFAULT_ROUNDS: usize = 5;
/// The default of `SECONDS`.
const DEFAULT_SECONDS: u64 = 4;

/// The settings of the benchmark.
pub(crate) struct Settings {
    /// The number of rounds. Each candidate is measured once per round.
    pub(crate) rounds: usize,
    /// The duration of a measurement, in seconds.
    pub(crate) seconds: u64,
    /// The `keygate` binary.
    pub(crate) keygate: PathBuf,
    /// The `bare-proxy` binary.
    pub(crate) bare: PathBuf,
    /// Whether to measure growth instead of the comparison.
    pub(crate) growth: bool,
    /// The part of the comparison to measure, one of [`PARTS`]; `None` for all parts.
    pub(crate) only: Option<String>,
}

impl Settings {
    /// Reads `ROUNDS`, `SECONDS`, `KEYGATE`, `BARE`, `GROWTH` and `ONLY`. An empty variable counts as unset. Panics on invalid values.
    pub(crate) fn from_environment() -> Self {
        Self {
            rounds: number("ROUNDS", DEFAULT_ROUNDS),
            seconds: number("SECONDS", DEFAULT_SECONDS),
            keygate: program("KEYGATE", "pgo/keygate"),
            bare: program("BARE", "bare-proxy/release/bare-proxy"),
            growth: text("GROWTH").is_some_and(|wanted| wanted != "0"),
            only: text("ONLY").inspect(|part| {
                assert!(
                    PARTS.contains(&part.as_str()),
                    "ONLY must be empty or one of {}, not {part:?}",
                    PARTS.join(", ")
                );
            }),
        }
    }

    /// Whether a part of the comparison is measured.
    pub(crate) fn measures(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

/// The path in the environment variable `name`, or that of a binary that `make bench` builds. The binary that cargo builds for this
/// benchmark is not used, because it includes code for tests.
fn program(name: &str, built: &str) -> PathBuf {
    let builds = Path::new(BINARY).ancestors().nth(2).unwrap();
    let program = text(name).map_or_else(|| builds.join(built), PathBuf::from);
    assert!(program.is_file(), "{} does not exist; run `make bench`, or set {name} to a path", program.display());
    program
}

/// The value of an environment variable; `None` if it is empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    text(name)
        .map_or(default, |text| text.parse().ok().unwrap_or_else(|| panic!("{name} must be a number, not {text:?}")))
}
