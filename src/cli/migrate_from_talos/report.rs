//! The report of a migration.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::source::Kind;
use crate::app::{MigratedKey, MigrationOutcome};
use crate::cli::output::{Columns, Output};

const COLUMNS: &Columns = &[
    ("KIND", "kind"),
    ("READ", "read"),
    ("MIGRATED", "migrated"),
    ("PRESENT", "already_present"),
    ("CONFLICTS", "conflicts"),
    ("FAILED", "failed"),
    ("ACTIVE", "active"),
    ("REVOKED", "revoked"),
    ("EXPIRED", "expired"),
];
/// The maximum number of keys that the report names. All are printed to stderr.
const NAMED_MAX: usize = 10_000;

/// Counts of keys of a kind.
#[derive(Debug, Default)]
struct Counts {
    read: u64,
    migrated: u64,
    present: u64,
    conflicts: u64,
    failed: u64,
    by_status: BTreeMap<&'static str, u64>,
}

/// The report of a migration.
pub(super) struct Report {
    dry_run: bool,
    counts: [Counts; 2],
    /// Keys that were not copied.
    named: Vec<Value>,
    doubts: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { dry_run, counts: <[Counts; 2]>::default(), named: Vec::new(), doubts: BTreeMap::new() }
    }

    /// Adds the results of a page. Keys that were not copied are printed at once.
    pub(super) fn add(&mut self, kind: Kind, results: &[MigratedKey]) {
        for key in results {
            let counts = &mut self.counts[usize::from(kind.is_imported())];
            counts.read += 1;
            *counts.by_status.entry(key.status).or_default() += 1;
            if let Some(doubt) = key.doubt {
                *self.doubts.entry(doubt).or_default() += 1;
            }
            match &key.outcome {
                MigrationOutcome::Added => counts.migrated += 1,
                MigrationOutcome::Present => counts.present += 1,
                MigrationOutcome::Differs(members) => {
                    counts.conflicts += 1;
                    self.name(kind, &key.key_id, &format!("is stored with other values of {}", members.join(", ")));
                }
                MigrationOutcome::Failed(why) => {
                    counts.failed += 1;
                    self.name(kind, &key.key_id, why);
                }
            }
        }
    }

    /// Whether all keys that were read are stored.
    pub(super) fn is_complete(&self) -> bool {
        self.counts.iter().all(|counts| counts.conflicts + counts.failed == 0)
    }

    /// Prints the counts to stdout, in the table or with the keys that were not copied, and warnings to stderr.
    pub(super) fn print(&self, output: &Output) -> anyhow::Result<()> {
        for (doubt, count) in &self.doubts {
            eprintln!("Warning: {count} {doubt}.");
        }
        if self.dry_run {
            eprintln!("Nothing was written: this was a dry run.");
        }
        let rows: Vec<Value> = Kind::ALL.into_iter().zip(&self.counts).map(|(kind, counts)| counts.row(kind)).collect();
        let warnings = self.doubts.iter().map(|(doubt, count)| format!("{count} {doubt}"));
        let report = json!({
            "dry_run": self.dry_run,
            "kinds": rows,
            "not_migrated": self.named,
            "warnings": warnings.collect::<Vec<_>>(),
        });
        output.list(&report, &rows, COLUMNS)
    }

    fn name(&mut self, kind: Kind, key_id: &str, why: &str) {
        // The id is a text of another server.
        eprintln!("{} key {}: {why}", kind.name(), key_id.escape_debug());
        if self.named.len() < NAMED_MAX {
            self.named.push(json!({"kind": kind.name(), "key_id": key_id, "reason": why}));
        }
    }
}

impl Counts {
    fn row(&self, kind: Kind) -> Value {
        let status = |name| self.by_status.get(name).copied().unwrap_or_default();
        json!({
            "kind": kind.name(),
            "read": self.read,
            "migrated": self.migrated,
            "already_present": self.present,
            "conflicts": self.conflicts,
            "failed": self.failed,
            "active": status("KEY_STATUS_ACTIVE"),
            "revoked": status("KEY_STATUS_REVOKED"),
            "expired": status("KEY_STATUS_EXPIRED"),
        })
    }
}
