//! Chains of sealed rows, their records, and the heads that checkpoints name.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::event::AuditEvent;
use super::mac::{AuditKeys, NO_SEAL};
use super::row::{AuditRow, Seal};

/// The chain of rows whose authentication code is wrong: they are never sealed.
pub const REJECTED: &str = "00000000-0000-0000-0000-000000000000";

/// The end of the chain of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    chain: String,
    seq: i64,
    seal: String,
}

/// What is stored about a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRecord {
    /// The chain.
    pub chain: String,
    /// The position of its last row.
    pub seq: i64,
    /// The seal of its last row.
    pub seal: String,
    /// The fingerprint of the secret that sealed it.
    pub secret: String,
    /// The last row that retention removed; position 0 if it removed none.
    pub anchor: Anchor,
}

/// The last row that retention removed from a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Anchor {
    /// The position of the row; 0 for none.
    pub seq: i64,
    /// Its seal.
    pub seal: String,
    /// The authentication code of the anchor.
    pub mac: String,
}

/// What sealing writes, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealPlan {
    /// The chain.
    pub chain: String,
    /// The fingerprint of the secret.
    pub secret: String,
    /// The rows to be sealed, in the order of the chain.
    pub sealed: Vec<SealedRow>,
    /// The ids of rows with a wrong authentication code, which are put aside.
    pub rejected: Vec<String>,
}

/// A row with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// The id of the row.
    pub id: String,
    /// Its position.
    pub seq: i64,
    /// Its seal.
    pub seal: String,
}

/// The seals that rows must have, by chain and position: what checkpoints and exported lines say.
#[derive(Debug, Default)]
pub struct Heads(HashMap<String, BTreeMap<i64, String>>);

impl ChainHead {
    /// A new chain with a random name.
    pub fn start() -> Self {
        let chain = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        Self { chain, seq: 0, seal: NO_SEAL.to_owned() }
    }

    /// Continues the chain with those of the rows whose authentication codes are right. Returns the new head.
    pub fn seal(&self, keys: &AuditKeys, rows: &[AuditRow]) -> (Self, SealPlan) {
        let mut head = self.clone();
        let (mut sealed, mut rejected) = (Vec::new(), Vec::new());
        for row in rows {
            if !keys.is_row(row) {
                rejected.push(row.id.clone());
                continue;
            }
            head.seq += 1;
            head.seal = keys.seal(&head.chain, head.seq, &head.seal, &row.mac);
            sealed.push(SealedRow { id: row.id.clone(), seq: head.seq, seal: head.seal.clone() });
        }
        let plan = SealPlan { chain: head.chain.clone(), secret: keys.fingerprint(), sealed, rejected };
        (head, plan)
    }
}

impl SealPlan {
    /// The rows with their seals; those that were rejected are left out.
    pub fn apply(&self, rows: Vec<AuditRow>) -> Vec<AuditRow> {
        let mut seals: HashMap<&str, &SealedRow> = self.sealed.iter().map(|row| (row.id.as_str(), row)).collect();
        let sealed = rows.into_iter().filter_map(|row| {
            let sealed = seals.remove(row.id.as_str())?;
            let seal = Seal { chain: self.chain.clone(), seq: sealed.seq, code: sealed.seal.clone() };
            Some(AuditRow { seal: Some(seal), ..row })
        });
        sealed.collect()
    }
}

impl Anchor {
    /// The anchor of a chain at its row at `seq`.
    pub fn new(keys: &AuditKeys, chain: &str, seq: i64, seal: &str) -> Self {
        Self { seq, seal: seal.to_owned(), mac: keys.anchor(chain, seq, seal) }
    }

    pub(super) fn is_valid(&self, keys: &AuditKeys, chain: &str) -> bool {
        self.seq == 0 || keys.is_anchor(&self.mac, chain, self.seq, &self.seal)
    }
}

impl Heads {
    /// Adds a head.
    pub fn add(&mut self, chain: &str, seq: i64, seal: &str) {
        self.0.entry(chain.to_owned()).or_default().insert(seq, seal.to_owned());
    }

    /// The chains with heads.
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a chain has this head.
    pub fn has(&self, chain: &str, seq: i64, seal: &str) -> bool {
        self.0.get(chain).and_then(|seals| seals.get(&seq)).is_some_and(|known| known == seal)
    }

    pub(super) fn of(&self, chain: &str) -> BTreeMap<i64, String> {
        self.0.get(chain).cloned().unwrap_or_default()
    }

    /// The heads as they are written into a checkpoint.
    pub fn to_json(records: &[ChainRecord]) -> Value {
        records.iter().map(|record| json!([record.chain, record.seq, record.seal])).collect()
    }
}

/// Adds the heads of a checkpoint, if its authentication code is right.
pub fn read_checkpoint(heads: &mut Heads, keys: &AuditKeys, row: &AuditRow) {
    if row.event != AuditEvent::Checkpoint.name() || !keys.is_row(row) {
        return;
    }
    let details = row.details.as_deref().and_then(|details| serde_json::from_str::<Value>(details).ok());
    for head in details.iter().filter_map(|details| details["heads"].as_array()).flatten() {
        if let (Some(chain), Some(seq), Some(seal)) = (head[0].as_str(), head[1].as_i64(), head[2].as_str()) {
            heads.add(chain, seq, seal);
        }
    }
}

/// Adds the seal of an exported line. `None` if the line is not one of a sealed row.
pub fn read_line(heads: &mut Heads, line: &str) -> Option<()> {
    let row: Value = serde_json::from_str(line).ok()?;
    heads.add(row["chain"].as_str()?, row["seq"].as_i64()?, row["seal"].as_str()?);
    Some(())
}
