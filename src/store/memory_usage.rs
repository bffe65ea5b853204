//! The usage of keys in the reference implementation.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::usage_store::{TopUsageQuery, UsageBatch, UsageCounts, UsageHour, UsageQuery, UsageSum};
use crate::id::{KeyId, TenantId};

/// Rows by tenant, key, hour and refusal, and the last batch of each writer.
#[derive(Debug, Default)]
pub(super) struct UsageTables {
    rows: BTreeMap<(TenantId, Option<KeyId>, UsageHour, String), UsageCounts>,
    writers: HashMap<Uuid, (u64, UsageHour)>,
}

impl UsageTables {
    pub(super) fn add(&mut self, batch: &UsageBatch) {
        let last = self.writers.get(&batch.writer).map(|(number, _)| *number);
        if last.is_some_and(|last| last >= batch.number) {
            return;
        }
        self.writers.insert(batch.writer, (batch.number, batch.hour));
        for row in &batch.rows {
            let key = (batch.tenant, row.key, row.hour, row.refusal.unwrap_or_default().to_owned());
            self.rows.entry(key).or_default().add(row.counts);
        }
    }

    pub(super) fn sums(&self, query: &UsageQuery) -> Vec<UsageSum> {
        let mut sums = BTreeMap::<_, UsageCounts>::new();
        for ((tenant, key, hour, refusal), counts) in &self.rows {
            let is_of_key = *key == Some(query.key);
            if *tenant == query.tenant && (is_of_key || key.is_none()) && (query.from..query.to).contains(hour) {
                sums.entry((hour.period(query.step), is_of_key, refusal)).or_default().add(*counts);
            }
        }
        let sum = |((period, is_of_key, refusal), counts): ((_, _, &String), _)| UsageSum {
            is_of_key,
            period,
            refusal: refusal.clone(),
            counts,
        };
        sums.into_iter().map(sum).collect()
    }

    pub(super) fn top(&self, query: &TopUsageQuery) -> Vec<(KeyId, u64)> {
        let mut requests = BTreeMap::<KeyId, u64>::new();
        for ((tenant, key, hour, refusal), counts) in &self.rows {
            let Some(key) = key else { continue };
            let is_counted = !query.only_refused || !refusal.is_empty();
            if *tenant == query.tenant && *hour >= query.from && is_counted {
                let sum = requests.entry(*key).or_default();
                *sum = sum.saturating_add(counts.requests);
            }
        }
        let mut top: Vec<_> = requests.into_iter().collect();
        top.sort_by_key(|(_, requests)| std::cmp::Reverse(*requests));
        top.truncate(query.limit as usize);
        top
    }

    pub(super) fn prune(&mut self, before: UsageHour, limit: u32) -> u64 {
        self.writers.retain(|_, (_, hour)| *hour >= before);
        let old: Vec<_> =
            self.rows.keys().filter(|(_, _, hour, _)| *hour < before).take(limit as usize).cloned().collect();
        for key in &old {
            self.rows.remove(key);
        }
        old.len() as u64
    }
}
