//! Verifies one chain, row by row.

use std::collections::BTreeMap;
use std::fmt;

use super::chain::{ChainRecord, Heads};
use super::mac::{AuditKeys, NO_SEAL};
use super::row::{AuditRow, Seal};

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Rows are missing in a chain, from one position to another.
    Removed {
        /// The chain.
        chain: String,
        /// The position of the first missing row.
        from: i64,
        /// The position of the last missing row.
        to: i64,
        /// The row before them; `None` if they are the first ones.
        after: Option<String>,
    },
    /// The content or the place of a row was changed after it was written.
    Edited(String),
    /// A row was not written by a process that has a secret of the configuration.
    Inserted(String),
    /// The record of a chain does not fit its rows.
    Record {
        /// The chain.
        chain: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The configuration has no secret with which a chain was sealed.
    UnknownSecret {
        /// The chain.
        chain: String,
        /// The fingerprint of the secret.
        fingerprint: String,
    },
}

/// Verifies the rows of a chain, which are given in the order of their positions.
pub struct ChainVerification<'a> {
    keys: &'a AuditKeys,
    chain: String,
    record: Option<ChainRecord>,
    heads: BTreeMap<i64, String>,
    seq: i64,
    /// The seal at `seq`; `None` after missing rows.
    seal: Option<String>,
    last_row: Option<String>,
    problems: Vec<Problem>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { chain, from, to, after } => {
                let rows = if from == to { format!("row {from}") } else { format!("rows {from} to {to}") };
                write!(f, "removed: {rows} of chain {chain}")?;
                match after {
                    Some(row) => write!(f, ", after row {row}"),
                    None => Ok(()),
                }
            }
            Self::Edited(row) => write!(f, "edited: row {row}"),
            Self::Inserted(row) => write!(f, "inserted: row {row}"),
            Self::Record { chain, why } => write!(f, "edited: the record of chain {chain}: {why}"),
            Self::UnknownSecret { chain, fingerprint } => write!(
                f,
                "cannot verify chain {chain}: it was sealed with another secret (fingerprint {fingerprint}); add that secret to \
                 secrets.hmac.retired"
            ),
        }
    }
}

impl<'a> ChainVerification<'a> {
    /// Begins after the anchor of the chain. `heads` are the seals that its rows must have.
    pub fn new(keys: &'a AuditKeys, chain: &str, record: Option<ChainRecord>, heads: &Heads) -> Self {
        let mut problems = Vec::new();
        let mut record_problem = |why| problems.push(Problem::Record { chain: chain.to_owned(), why });
        let anchor = record.as_ref().map(|record| record.anchor.clone()).unwrap_or_default();
        let anchored = anchor.is_valid(keys, chain);
        match &record {
            None => record_problem("it is missing"),
            Some(_) if !anchored => record_problem("the anchor was not written by retention"),
            Some(_) => {}
        }
        if let Some(record) = &record
            && !keys.has(&record.secret)
        {
            problems.push(Problem::UnknownSecret { chain: chain.to_owned(), fingerprint: record.secret.clone() });
        }
        let (seq, seal) = if anchored && anchor.seq > 0 { (anchor.seq, anchor.seal) } else { (0, NO_SEAL.to_owned()) };
        let mut heads = heads.of(chain);
        if let Some(record) = &record {
            heads.entry(record.seq).or_insert_with(|| record.seal.clone());
        }
        heads.retain(|head, _| *head > seq);
        Self { keys, chain: chain.to_owned(), record, heads, seq, seal: Some(seal), last_row: None, problems }
    }

    /// The same, but begins after a later position: the rows up to there are not verified, and the first one after it is only checked for its
    /// own code.
    #[must_use]
    pub fn after(mut self, seq: i64) -> Self {
        if seq > self.seq {
            self.heads.retain(|head, _| *head > seq);
            (self.seq, self.seal) = (seq, None);
        }
        self
    }

    /// The position after which rows are to be read.
    pub fn position(&self) -> i64 {
        self.seq
    }

    /// Verifies the next row.
    pub fn add(&mut self, row: &AuditRow) {
        let Some(seal) = &row.seal else { return };
        if seal.seq <= self.seq {
            self.problems.push(Problem::Inserted(row.describe()));
            return;
        }
        self.report_gap(seal.seq);
        self.check(row, seal);
        self.last_row = Some(row.describe());
        self.seq = seal.seq;
    }

    /// Whether no problem was found so far.
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }

    /// Ends the verification. Returns the problems.
    pub fn finish(mut self) -> Vec<Problem> {
        let last = self.heads.keys().next_back().copied().unwrap_or_default();
        self.report_gap(last + 1);
        self.problems
    }

    /// Reports the rows between the current position and `next`.
    fn report_gap(&mut self, next: i64) {
        if next > self.seq + 1 {
            let (chain, after) = (self.chain.clone(), self.last_row.clone());
            self.problems.push(Problem::Removed { chain, from: self.seq + 1, to: next - 1, after });
            self.seal = None;
        }
    }

    fn check(&mut self, row: &AuditRow, seal: &Seal) {
        let record = self.record.as_ref();
        let secret = record.map_or_else(|| self.keys.fingerprint(), |record| record.secret.clone());
        if !self.keys.has(&secret) {
            self.seal = Some(seal.code.clone());
            return;
        }
        let place = (self.chain.as_str(), seal.seq);
        let expected = self.seal.as_ref().and_then(|previous| self.keys.seal_under(&secret, place, previous, &row.mac));
        let is_content = self.keys.is_row(row);
        // After missing rows, the seal cannot be computed.
        let is_place = expected.as_ref().map(|expected| *expected == seal.code);
        let is_head = self.heads.get(&seal.seq).is_none_or(|head| *head == seal.code);
        match (is_content, is_place, is_head) {
            (true, None | Some(true), true) => {}
            (false, None | Some(false), _) => self.problems.push(Problem::Inserted(row.describe())),
            (true, Some(true), false) if record.is_some_and(|record| record.seq == seal.seq) => {
                let why = "it names another last row";
                self.problems.push(Problem::Record { chain: self.chain.clone(), why });
            }
            _ => self.problems.push(Problem::Edited(row.describe())),
        }
        // The rows after an edited one were sealed after what it was.
        self.seal = Some(expected.filter(|_| is_content).unwrap_or_else(|| seal.code.clone()));
    }
}
