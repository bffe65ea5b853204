//! What the environment asks for.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::comparisons::PARTS;
use crate::support::keygate::BINARY;

/// Rounds, unless `ROUNDS` says otherwise.
const ROUNDS: usize = 5;
/// Seconds of one measurement, unless `SECONDS` says otherwise.
const SECONDS: u64 = 4;

/// What is measured, and for how long.
pub(crate) struct Settings {
    /// How often each candidate is measured.
    pub(crate) rounds: usize,
    /// How long each time, in seconds.
    pub(crate) seconds: u64,
    /// The `keygate` that is measured.
    pub(crate) keygate: PathBuf,
    /// The bare proxy that it is compared with.
    pub(crate) bare: PathBuf,
    /// Whether the cost as the work grows is measured, instead of the comparison.
    pub(crate) growth: bool,
    /// The part of the comparison that is measured, of [`PARTS`]; all of it if absent.
    pub(crate) only: Option<String>,
}

impl Settings {
    /// `ROUNDS`, `SECONDS`, `KEYGATE`, `BARE`, `GROWTH`, `ONLY`; what is empty counts as absent.
    pub(crate) fn from_environment() -> Self {
        Self {
            rounds: number("ROUNDS", ROUNDS),
            seconds: number("SECONDS", SECONDS),
            keygate: program("KEYGATE", "pgo/keygate"),
            bare: program("BARE", "bare-proxy/release/bare-proxy"),
            growth: text("GROWTH").is_some_and(|wanted| wanted != "0"),
            only: text("ONLY").inspect(|part| {
                assert!(PARTS.contains(&part.as_str()), "ONLY is empty or one of {}, not {part:?}", PARTS.join(", "));
            }),
        }
    }

    /// Whether a part of the comparison is measured.
    pub(crate) fn measures(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

/// The program that is named, or the one that `make bench` has built. Never the one that cargo has built for this bench: it has what
/// the tests need in it.
fn program(name: &str, built: &str) -> PathBuf {
    let builds = Path::new(BINARY).ancestors().nth(2).unwrap();
    let program = text(name).map_or_else(|| builds.join(built), PathBuf::from);
    assert!(program.is_file(), "there is no {}; `make bench` builds it, or {name} names another", program.display());
    program
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    text(name).map_or(default, |text| text.parse().ok().unwrap_or_else(|| panic!("{name} is a number, not {text:?}")))
}
