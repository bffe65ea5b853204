//! The figures that were accepted last, and what a new one means beside them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::callgrind::Count;
use crate::support::STAGES;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.json");
/// How many percent a figure may rise or fall where the baseline does not say otherwise.
const BOUND: f64 = 5.0;
/// What is higher by this many percent is more than noise: many small rises are one that needs a reason.
const NOISE: f64 = 1.0;

/// The file.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Baseline {
    /// Why figures rose the last time that they did.
    reason: String,
    /// What the figures hold for.
    pub(crate) kind: Kind,
    /// By name.
    pub(crate) stages: BTreeMap<String, Entry>,
}

/// What was accepted for a stage.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Entry {
    /// For doing it once.
    pub(crate) instructions: u64,
    /// How many percent it may rise or fall, if not [`BOUND`].
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_percent: Option<f64>,
}

/// What decides which instructions a build has and takes. Figures of different kinds cannot be compared.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Kind {
    rustc: String,
    processor: String,
}

/// What a figure means.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It has no other to compare with.
    New(&'static str),
    /// It is as it was, within the bound: the change in percent.
    Same(f64),
    /// It is lower.
    Better(f64),
    /// It is higher; the stage, the change, and what it may be.
    Worse(&'static str, f64, f64),
}

impl Kind {
    /// What this build is, and runs on.
    ///
    /// # Errors
    /// When rustc cannot be asked.
    pub(crate) fn here() -> Result<Self, String> {
        let output = Command::new("rustc").arg("--version").output();
        let output = output.map_err(|error| format!("rustc cannot be asked for its version: {error}"))?;
        let rustc = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { rustc, processor: processor() })
    }
}

/// What libraries choose their code by. Valgrind knows nothing newer than these, whatever the machine can do.
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.rustc, self.processor)
    }
}

impl Baseline {
    /// The committed one.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(crate) fn read() -> Result<Self, String> {
        let text = fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{PATH}: {error}"))
    }

    /// What a figure means.
    pub(crate) fn judge(&self, count: &Count) -> Finding {
        let Some(entry) = self.stages.get(count.name) else { return Finding::New(count.name) };
        let change = change(entry.instructions, count.instructions);
        let bound = entry.bound_percent.unwrap_or(BOUND);
        if change > bound {
            Finding::Worse(count.name, change, bound)
        } else if change < -bound {
            Finding::Better(change)
        } else {
            Finding::Same(change)
        }
    }

    /// What it has figures of that is no stage.
    pub(crate) fn gone(&self) -> impl Iterator<Item = String> {
        let gone = self.stages.keys().filter(|name| STAGES.iter().all(|stage| stage.name != **name));
        gone.map(|name| format!("{name:?} is in the baseline and counted no more"))
    }

    /// Takes figures over; with `all` in place of every other.
    ///
    /// # Errors
    /// When one is higher and no reason is given, when figures of two kinds would be mixed, or when it cannot be written.
    pub(crate) fn write(mut self, kind: Kind, counts: &[Count], reason: &str, all: bool) -> Result<(), String> {
        if !all && kind != self.kind {
            return Err(format!("the baseline is of {}: write all stages, without STAGES", self.kind));
        }
        let before = |count: &Count| self.stages.get(count.name).map(|entry| entry.instructions);
        let is_higher = |count: &&Count| before(count).is_some_and(|before| change(before, count.instructions) > NOISE);
        let higher: Vec<_> = counts.iter().filter(is_higher).map(|count| count.name).collect();
        if !higher.is_empty() && reason.is_empty() {
            return Err(format!("not written: higher without a REASON: {}", higher.join(", ")));
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
        self.kind = kind;
        if !higher.is_empty() {
            reason.clone_into(&mut self.reason);
        }
        let text = serde_json::to_string_pretty(&self).map_err(|error| error.to_string())?;
        fs::write(PATH, text + "\n").map_err(|error| format!("{PATH}: {error}"))
    }
}

impl Finding {
    /// What is wrong with it, if anything is.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self {
            Self::New(name) => Some(format!("{name:?} has no baseline")),
            Self::Worse(name, change, bound) => {
                Some(format!("{name:?} takes {change:.1} % more instructions than before; {bound} % are let pass"))
            }
            Self::Same(_) | Self::Better(_) => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(_) => f.write_str("     new"),
            Self::Same(change) => write!(f, "{change:>+6.1} %"),
            Self::Better(change) => write!(f, "{change:>+6.1} %  better: write it down"),
            Self::Worse(_, change, _) => write!(f, "{change:>+6.1} %  WORSE"),
        }
    }
}

/// In percent.
#[expect(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]
fn change(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}
