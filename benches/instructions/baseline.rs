//! The accepted instruction counts, and the comparison of new counts with them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::callgrind::Count;
use crate::support::STAGES;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.json");
/// The default bound for the change of a count in either direction, in percent.
const BOUND_PERCENT: f64 = 5.0;
/// Writing a rise of more than this many percent requires a reason, although it is within the bound: many small rises add up.
const NOISE_PERCENT: f64 = 1.0;

/// The content of `baseline.json`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Baseline {
    /// The reason that was given when a rise was last accepted.
    reason: String,
    /// The platform that the counts are valid for.
    #[serde(rename = "kind")]
    pub(crate) platform: Platform,
    /// The accepted counts by stage name.
    pub(crate) stages: BTreeMap<String, Entry>,
}

/// The accepted count of a stage.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Entry {
    /// Instructions per iteration.
    pub(crate) instructions: u64,
    /// Overrides [`BOUND_PERCENT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_percent: Option<f64>,
}

/// The compiler and the processor, which determine the instructions that run. Counts of different platforms are not comparable.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Platform {
    /// The output of `rustc --version`.
    rustc: String,
    /// The architecture and the processor features that libraries detect.
    processor: String,
}

/// The result of the comparison of a count with the baseline. Changes and bounds are in percent.
#[derive(Debug)]
pub(crate) enum Comparison {
    /// The baseline has no count for the stage of this name.
    New(&'static str),
    /// The change is within the bound.
    Unchanged(f64),
    /// The count is lower by more than the bound.
    Improved(f64),
    /// The count is higher by more than the bound: the name of the stage, the change, and the bound.
    Regressed(&'static str, f64, f64),
}

impl Platform {
    /// The compiler on the `PATH` and the processor of this machine.
    ///
    /// # Errors
    /// If `rustc` cannot be run.
    pub(crate) fn current() -> Result<Self, String> {
        let output = Command::new("rustc").arg("--version").output();
        let output = output.map_err(|error| format!("cannot run rustc --version: {error}"))?;
        let rustc = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { rustc, processor: processor() })
    }
}

/// The processor features by which libraries choose their code at run time. Valgrind supports no newer features than these.
#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    let features = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
    ];
    let present = features.iter().filter(|(_, present)| *present).map(|(name, _)| *name);
    std::iter::once("x86_64").chain(present).collect::<Vec<_>>().join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.rustc, self.processor)
    }
}

impl Baseline {
    /// Reads the baseline from the repository.
    ///
    /// # Errors
    /// If the file is missing, unreadable or invalid.
    pub(crate) fn read() -> Result<Self, String> {
        let text = fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{PATH}: {error}"))
    }

    /// Compares a count with the baseline.
    pub(crate) fn compare(&self, count: &Count) -> Comparison {
        let Some(entry) = self.stages.get(count.name) else { return Comparison::New(count.name) };
        let change = change_percent(entry.instructions, count.instructions);
        let bound = entry.bound_percent.unwrap_or(BOUND_PERCENT);
        if change > bound {
            Comparison::Regressed(count.name, change, bound)
        } else if change < -bound {
            Comparison::Improved(change)
        } else {
            Comparison::Unchanged(change)
        }
    }

    /// An error message for each entry of the baseline whose stage no longer exists.
    pub(crate) fn removed_stages(&self) -> impl Iterator<Item = String> {
        let removed = self.stages.keys().filter(|name| STAGES.iter().all(|stage| stage.name != **name));
        removed.map(|name| format!("{name:?} is in the baseline, but there is no such stage"))
    }

    /// Writes counts to the baseline. With `all` they replace all entries, otherwise only those of the same stages.
    ///
    /// # Errors
    /// If a count has risen by more than [`NOISE_PERCENT`] and `reason` is empty, if counts of different platforms would be mixed, or if
    /// the file cannot be written.
    pub(crate) fn write(mut self, platform: Platform, counts: &[Count], reason: &str, all: bool) -> Result<(), String> {
        if !all && platform != self.platform {
            return Err(format!(
                "not written: the baseline is for {}; run without STAGES to replace it",
                self.platform
            ));
        }
        let before = |count: &Count| self.stages.get(count.name).map(|entry| entry.instructions);
        let has_risen = |count: &&Count| {
            before(count).is_some_and(|before| change_percent(before, count.instructions) > NOISE_PERCENT)
        };
        let risen: Vec<_> = counts.iter().filter(has_risen).map(|count| count.name).collect();
        if !risen.is_empty() && reason.is_empty() {
            return Err(format!("not written: these counts are higher, set REASON: {}", risen.join(", ")));
        }
        let entry = |count: &Count| {
            let bound_percent = self.stages.get(count.name).and_then(|entry| entry.bound_percent);
            (count.name.to_owned(), Entry { instructions: count.instructions, bound_percent })
        };
        let written: BTreeMap<_, _> = counts.iter().map(entry).collect();
        if all {
            self.stages.clear();
        }
        self.stages.extend(written);
        self.platform = platform;
        if !risen.is_empty() {
            reason.clone_into(&mut self.reason);
        }
        let text = serde_json::to_string_pretty(&self).map_err(|error| error.to_string())?;
        fs::write(PATH, text + "\n").map_err(|error| format!("{PATH}: {error}"))
    }
}

impl Comparison {
    /// The error message for a new or regressed stage.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Self::New(name) => Some(format!("{name:?} has no baseline")),
            Self::Regressed(name, change, bound) => Some(format!(
                "{name:?} takes {change:.1} % more instructions than the baseline; the bound is {bound} %"
            )),
            Self::Unchanged(_) | Self::Improved(_) => None,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(_) => f.write_str("     new"),
            Self::Unchanged(change) => write!(f, "{change:>+6.1} %"),
            Self::Improved(change) => write!(f, "{change:>+6.1} %  improved: update the baseline"),
            Self::Regressed(_, change, _) => write!(f, "{change:>+6.1} %  REGRESSED"),
        }
    }
}

/// The change from `before` to `now`, in percent.
#[expect(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]
fn change_percent(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}
