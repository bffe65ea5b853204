//! The audit trail of the store in memory.

use std::collections::HashSet;

use super::audit_store::{AuditQuery, MakePlan, Unsealed};
use crate::audit::{Anchor, AuditEvent, AuditRow, ChainRecord};

/// The rows by their ids, and the records of chains.
#[derive(Debug, Default)]
pub(super) struct AuditTables {
    rows: Vec<AuditRow>,
    chains: Vec<ChainRecord>,
    /// The ids of rows that are never sealed.
    rejected: HashSet<String>,
}

impl AuditTables {
    pub(super) fn record(&mut self, rows: &[AuditRow]) {
        self.rows.extend_from_slice(rows);
        self.rows.sort_by(|a, b| a.id.cmp(&b.id));
    }

    pub(super) fn seal(&mut self, selection: &Unsealed<'_>, plan: MakePlan<'_>) -> Vec<AuditRow> {
        let is_selected = |row: &&AuditRow| {
            let is_due = row.writer == selection.writer || row.time < selection.orphaned;
            row.seal.is_none() && is_due && !self.rejected.contains(&row.id)
        };
        let rows: Vec<_> = self.rows.iter().filter(is_selected).take(selection.limit as usize).cloned().collect();
        if rows.is_empty() {
            return rows;
        }
        let plan = plan(&rows);
        self.rejected.extend(plan.rejected.iter().cloned());
        let sealed = plan.apply(rows);
        for row in &mut self.rows {
            if let Some(sealed) = sealed.iter().find(|sealed| sealed.id == row.id) {
                row.seal.clone_from(&sealed.seal);
            }
        }
        if let Some(last) = plan.sealed.last() {
            let anchor = Anchor::default();
            let found = self.chains.iter().position(|record| record.chain == plan.chain);
            let anchor = found.map_or(anchor, |index| self.chains.swap_remove(index).anchor);
            let (chain, secret) = (plan.chain.clone(), plan.secret.clone());
            self.chains.push(ChainRecord { chain, seq: last.seq, seal: last.seal.clone(), secret, anchor });
        }
        sealed
    }

    pub(super) fn page(&self, query: &AuditQuery) -> Vec<AuditRow> {
        let tenants: Vec<_> = query.tenants.iter().map(ToString::to_string).collect();
        let is_same = |wanted: &Option<String>, value: Option<&String>| wanted.is_none() || wanted.as_ref() == value;
        let matches = |row: &&AuditRow| {
            let is_event = match &query.events[..] {
                [] => row.event != AuditEvent::Checkpoint.name(),
                events => events.iter().any(|event| event.name() == row.event),
            };
            let is_after =
                query.after.as_ref().is_none_or(|after| (row.id > *after) == query.ascending && row.id != *after);
            tenants.contains(&row.tenant)
                && (query.actors.prefixes().is_none()
                    || row.actor_id.as_ref().is_some_and(|actor| query.actors.allows(actor)))
                && is_event
                && is_after
                && query.from.is_none_or(|from| row.time >= from)
                && query.to.is_none_or(|to| row.time < to)
                && is_same(&query.principal, Some(&row.principal))
                && is_same(&query.key_id, row.key_id.as_ref())
                && is_same(&query.actor_id, row.actor_id.as_ref())
        };
        let limit = query.limit as usize;
        let rows = self.rows.iter();
        if query.ascending {
            rows.filter(matches).take(limit).cloned().collect()
        } else {
            rows.rev().filter(matches).take(limit).cloned().collect()
        }
    }

    pub(super) fn chains(&self, limit: u32) -> Vec<ChainRecord> {
        self.chains.iter().rev().take(limit as usize).cloned().collect()
    }

    pub(super) fn chain_names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.rows.iter().filter_map(|row| row.seal.as_ref()).map(|seal| seal.chain.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn chain_rows(&self, chain: &str, after: i64, limit: u32) -> Vec<AuditRow> {
        let seq = |row: &AuditRow| row.seal.as_ref().filter(|seal| seal.chain == chain).map(|seal| seal.seq);
        let mut rows: Vec<_> =
            self.rows.iter().filter(|row| seq(row).is_some_and(|seq| seq > after)).cloned().collect();
        rows.sort_by_key(seq);
        rows.truncate(limit as usize);
        rows
    }

    pub(super) fn unsealed(&self, after: &str, limit: u32) -> Vec<AuditRow> {
        let unsealed = self.rows.iter().filter(|row| row.seal.is_none() && row.id.as_str() > after);
        unsealed.take(limit as usize).cloned().collect()
    }

    pub(super) fn prune(&mut self, chain: &str, anchor: &Anchor, replaced: i64) {
        let Some(record) = self.chains.iter_mut().find(|record| record.chain == chain) else { return };
        if record.anchor.seq != replaced {
            return;
        }
        record.anchor = anchor.clone();
        self.rows.retain(|row| row.seal.as_ref().is_none_or(|seal| seal.chain != chain || seal.seq > anchor.seq));
    }

    /// Removes the rows of a chain after a position, and adapts its record.
    #[cfg(test)]
    pub(super) fn truncate(&mut self, chain: &str, seq: i64) {
        self.rows.retain(|row| row.seal.as_ref().is_none_or(|seal| seal.chain != chain || seal.seq <= seq));
        let last =
            self.rows.iter().filter_map(|row| row.seal.as_ref()).find(|seal| seal.chain == chain && seal.seq == seq);
        if let (Some(last), Some(record)) = (last, self.chains.iter_mut().find(|record| record.chain == chain)) {
            record.seq = seq;
            record.seal.clone_from(&last.code);
        }
    }
}
