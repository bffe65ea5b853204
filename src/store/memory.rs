//! The reference implementation, in memory. Nothing is kept when the process ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::audit_store::{AuditQuery, AuditStore, MakePlan, RecorderSlot, Unsealed};
use super::error::StoreError;
use super::inactive::{InactiveCount, InactiveQuery};
use super::key_store::{
    Inserted, KeySource, KeyStore, PageQuery, PurgedKey, Revoked, RevokedKey, check_system, check_tenants, day_begin,
};
use super::memory_audit::AuditTables;
use super::memory_usage::UsageTables;
use super::search::{FoundKeys, ScannedKey, SearchQuery};
use super::usage_store::{TopUsageQuery, UsageBatch, UsageHour, UsageQuery, UsageStore, UsageSum};
use crate::audit::{Anchor, AuditRow, ChainRecord, Recorder};
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, KeySearch, Revocation, Status};
use crate::request_context::RequestContext;

/// A store in the memory of this process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    recorder: RecorderSlot,
    has_no_audit: bool,
}

#[derive(Debug, Default)]
struct Tables {
    keys: BTreeMap<(TenantId, KeyId), Row>,
    deleted: Vec<RevokedKey>,
    audit: AuditTables,
    usage: UsageTables,
}

#[derive(Debug)]
struct Row {
    key: ApiKey,
    request_id: Option<String>,
}

impl MemoryStore {
    /// A store without an audit trail, for benchmarks with many keys.
    #[doc(hidden)]
    pub fn without_audit() -> Self {
        Self { has_no_audit: true, ..Self::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStore {
    /// Writes the rows that `make` makes.
    fn write_audit<T: IntoIterator<Item = AuditRow>>(&self, tables: &mut Tables, make: impl FnOnce(&Recorder) -> T) {
        tables.audit.record(&self.recorder.rows(make));
    }
}

#[cfg(test)]
impl MemoryStore {
    /// Removes the rows of a chain after a position, and adapts its record, as who can write to a database can.
    pub(crate) fn truncate_chain(&self, chain: &str, seq: i64) {
        self.tables().audit.truncate(chain, seq);
    }
}

impl Tables {
    fn find_by_request(&self, tenant: TenantId, kind: KeyKind, request_id: &str) -> Option<ApiKey> {
        let matches = |((of, id), row): &(&(TenantId, KeyId), &Row)| {
            *of == tenant && id.kind() == kind && row.request_id.as_deref() == Some(request_id)
        };
        self.keys.iter().find(matches).map(|(_, row)| row.key.clone())
    }

    fn add(&mut self, key: &ApiKey, request_id: Option<&str>) -> bool {
        let free = !self.keys.contains_key(&(key.tenant, key.id));
        if free {
            let row = Row { key: key.clone(), request_id: request_id.map(Into::into) };
            self.keys.insert((key.tenant, key.id), row);
        }
        free
    }
}

fn revoke(key: &mut ApiKey, revocation: &Revocation, now: Timestamp) {
    key.status = Status::Revoked(revocation.clone());
    key.update_time = now;
    key.expire_time = Some(Revocation::expiry(now, key.expire_time));
    key.revoke_time = None;
    key.version += 1;
}

/// Whether a key is not revoked, by now or by its status.
fn is_active(key: &ApiKey, now: Timestamp) -> bool {
    key.revocation(now).is_none()
}

fn revoked_key(key: &ApiKey) -> RevokedKey {
    let time = key.revoke_time.unwrap_or(key.update_time);
    RevokedKey { tenant: key.tenant, id: key.id, time, is_later: key.revoke_time.is_some() }
}

#[async_trait]
impl KeySource for MemoryStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.tables().keys.get(&(tenant, id)).map(|row| row.key.clone()))
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn find_by_request(
        &self,
        tenant: TenantId,
        kind: KeyKind,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.tables().find_by_request(tenant, kind, request_id))
    }

    async fn list(&self, page: &PageQuery<'_>) -> Result<Vec<ApiKey>, StoreError> {
        let matches = |key: &&ApiKey| {
            key.tenant == page.tenant
                && key.id.kind() == page.kind
                && page.before.is_none_or(|before| key.id < before)
                && page.filter.actor_id.as_ref().is_none_or(|actor| *actor == key.actor_id)
                && page.actors.allows(&key.actor_id)
                && page.filter.state.is_none_or(|state| state == key.effective_status(page.now))
        };
        let tables = self.tables();
        Ok(tables.keys.values().rev().map(|row| &row.key).filter(matches).take(page.limit as usize).cloned().collect())
    }

    async fn search(&self, query: &SearchQuery<'_>) -> Result<FoundKeys, StoreError> {
        let order = query.order();
        let matches = |key: &&ApiKey| {
            key.tenant == query.tenant
                && key.id.kind() == query.kind
                && query.after.is_none_or(|after| order.position(key) > *after)
                && query.actors.allows(&key.actor_id)
                && KeySearch { kind: None, ..query.search.clone() }.matches(key, query.now)
        };
        let tables = self.tables();
        let mut keys: Vec<_> = tables.keys.values().map(|row| &row.key).filter(matches).cloned().collect();
        keys.sort_by_cached_key(|key| order.position(key));
        query.found(keys.into_iter().map(|key| Ok(ScannedKey { key, is_match: true, is_last: false })))
    }

    async fn insert(
        &self,
        context: &RequestContext,
        key: &ApiKey,
        request_id: Option<&str>,
    ) -> Result<Inserted, StoreError> {
        check_tenants(context, [key.tenant])?;
        let mut tables = self.tables();
        if let Some(first) = request_id.and_then(|id| tables.find_by_request(key.tenant, key.id.kind(), id)) {
            return Ok(Inserted::Replay(Box::new(first)));
        }
        if !tables.add(key, request_id) {
            return Ok(Inserted::Exists);
        }
        self.write_audit(&mut tables, |recorder| [recorder.created(context, key)]);
        Ok(Inserted::New)
    }

    async fn insert_many(&self, context: &RequestContext, keys: &[ApiKey]) -> Result<Vec<bool>, StoreError> {
        check_tenants(context, keys.iter().map(|key| key.tenant))?;
        let mut tables = self.tables();
        let added: Vec<bool> = keys.iter().map(|key| tables.add(key, None)).collect();
        let new = keys.iter().zip(&added).filter(|(_, added)| **added);
        self.write_audit(&mut tables, |recorder| {
            new.map(|(key, _)| recorder.created(context, key)).collect::<Vec<_>>()
        });
        Ok(added)
    }

    async fn replace(&self, context: &RequestContext, key: &ApiKey, replaced: &ApiKey) -> Result<bool, StoreError> {
        check_tenants(context, [key.tenant])?;
        let mut tables = self.tables();
        match tables.keys.get_mut(&(key.tenant, key.id)) {
            Some(row) if row.key.version == replaced.version => {
                let last_used_time = row.key.last_used_time;
                row.key = ApiKey { last_used_time, ..key.clone() };
                self.write_audit(&mut tables, |recorder| [recorder.updated(context, replaced, key)]);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn revoke(
        &self,
        context: &RequestContext,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        let mut tables = self.tables();
        match tables.keys.get_mut(&(context.tenant, id)) {
            None => Ok(Revoked::Absent),
            Some(row) if !is_active(&row.key, now) => Ok(Revoked::Already),
            Some(row) => {
                let old = row.key.clone();
                revoke(&mut row.key, revocation, now);
                let key = row.key.clone();
                self.write_audit(&mut tables, |recorder| [recorder.revoked(context, &old, revocation, now)]);
                Ok(Revoked::Done(Box::new(key)))
            }
        }
    }

    async fn rotate(
        &self,
        context: &RequestContext,
        old: &ApiKey,
        new: &ApiKey,
        now: Timestamp,
        revoke_time: Option<Timestamp>,
    ) -> Result<Option<ApiKey>, StoreError> {
        check_tenants(context, [old.tenant, new.tenant])?;
        let mut tables = self.tables();
        let replaced = match tables.keys.get_mut(&(old.tenant, old.id)) {
            Some(row) if is_active(&row.key, now) && row.key.version == old.version => {
                match revoke_time {
                    None => revoke(&mut row.key, &Revocation::superseded(), now),
                    Some(end) => {
                        row.key = ApiKey {
                            revoke_time: Some(end),
                            update_time: now,
                            version: row.key.version + 1,
                            ..row.key.clone()
                        };
                    }
                }
                row.key.replaced_by = Some(new.id);
                row.key.clone()
            }
            _ => return Ok(None),
        };
        tables.add(new, None);
        self.write_audit(&mut tables, |recorder| recorder.rotated(context, (old, new), now, revoke_time));
        Ok(Some(replaced))
    }

    async fn record_last_used(
        &self,
        context: &RequestContext,
        keys: &[(TenantId, KeyId)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        check_tenants(context, keys.iter().map(|(tenant, _)| *tenant))?;
        let mut tables = self.tables();
        for key in keys {
            if let Some(row) = tables.keys.get_mut(key)
                && row.key.last_used_time.is_none_or(|used| used < day_begin(now))
            {
                row.key.last_used_time = Some(now);
            }
        }
        Ok(())
    }

    async fn delete(&self, context: &RequestContext, id: KeyId, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let mut tables = self.tables();
        let Some(row) = tables.keys.remove(&(context.tenant, id)) else {
            return Ok(None);
        };
        tables.deleted.push(RevokedKey { tenant: context.tenant, id, time: now, is_later: false });
        self.write_audit(&mut tables, |recorder| [recorder.deleted(context, &row.key)]);
        Ok(Some(row.key.version))
    }

    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError> {
        check_system(context)?;
        let mut tables = self.tables();
        let expiry = |row: &Row| row.key.expire_time.filter(|time| *time < before);
        let mut expired: Vec<_> = tables.keys.iter().filter_map(|(id, row)| Some((expiry(row)?, *id))).collect();
        expired.sort_unstable();
        expired.truncate(limit as usize);
        let purged: Vec<_> = expired.iter().filter_map(|(_, id)| tables.keys.remove(id)).map(|row| row.key).collect();
        let revoked = purged.iter().filter(|key| key.status != Status::Active);
        tables.deleted.extend(revoked.map(revoked_key));
        let rows = |recorder: &Recorder| purged.iter().map(|key| recorder.purged(context, key)).collect::<Vec<_>>();
        self.write_audit(&mut tables, rows);
        Ok(purged.iter().map(|key| PurgedKey { tenant: key.tenant, id: key.id, version: key.version }).collect())
    }

    async fn prune_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        let mut tables = self.tables();
        let all = tables.deleted.len();
        let mut left = limit;
        tables.deleted.retain(|key| {
            let removed = key.time < before && left > 0;
            left -= u32::from(removed);
            !removed
        });
        Ok((all - tables.deleted.len()) as u64)
    }

    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<RevokedKey>, StoreError> {
        let tables = self.tables();
        let keys = tables.keys.values().map(|row| &row.key);
        let revoked = keys.filter(|key| key.status != Status::Active || key.revoke_time.is_some()).map(revoked_key);
        let mut latest: Vec<_> =
            revoked.chain(tables.deleted.iter().copied()).filter(|key| key.time >= since).collect();
        latest.sort_by_key(|key| std::cmp::Reverse(key.time));
        latest.truncate(limit as usize);
        Ok(latest)
    }

    async fn count_active(&self, tenant: TenantId, now: Timestamp) -> Result<u64, StoreError> {
        let tables = self.tables();
        let active = tables.keys.iter().filter(|((of, _), row)| *of == tenant && is_active(&row.key, now));
        Ok(active.count() as u64)
    }

    async fn count_inactive(&self, query: &InactiveQuery<'_>) -> Result<InactiveCount, StoreError> {
        let tables = self.tables();
        let of_kind = tables.keys.iter().filter(|((of, id), _)| *of == query.tenant && id.kind() == query.kind);
        let count = of_kind.filter(|(_, row)| query.matches(&row.key)).count();
        Ok(InactiveCount { count: count as u64, is_complete: true })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn audit(self: Arc<Self>) -> Option<Arc<dyn AuditStore>> {
        if self.has_no_audit { None } else { Some(self) }
    }

    fn usage(self: Arc<Self>) -> Option<Arc<dyn UsageStore>> {
        Some(self)
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    fn record_with(&self, recorder: Arc<Recorder>) {
        self.recorder.set(recorder);
    }

    async fn record(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        self.tables().audit.record(rows);
        Ok(())
    }

    async fn seal(&self, selection: &Unsealed<'_>, plan: MakePlan<'_>) -> Result<Vec<AuditRow>, StoreError> {
        Ok(self.tables().audit.seal(selection, plan))
    }

    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        Ok(self.tables().audit.page(query))
    }

    /// All records, whatever `since` is.
    async fn chains(&self, _: Option<Timestamp>, limit: u32) -> Result<Vec<ChainRecord>, StoreError> {
        Ok(self.tables().audit.chains(limit))
    }

    async fn chain_names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.tables().audit.chain_names())
    }

    async fn chain_rows(&self, chain: &str, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        Ok(self.tables().audit.chain_rows(chain, after, limit))
    }

    async fn unsealed(&self, after: &str, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        Ok(self.tables().audit.unsealed(after, limit))
    }

    async fn prune_chain(&self, chain: &str, anchor: &Anchor, replaced: i64) -> Result<(), StoreError> {
        self.tables().audit.prune(chain, anchor, replaced);
        Ok(())
    }
}

#[async_trait]
impl UsageStore for MemoryStore {
    async fn add_usage(&self, context: &RequestContext, batch: &UsageBatch) -> Result<(), StoreError> {
        check_tenants(context, [batch.tenant])?;
        self.tables().usage.add(batch);
        Ok(())
    }

    async fn usage_of(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError> {
        Ok(self.tables().usage.sums(query))
    }

    async fn top_usage(&self, query: &TopUsageQuery) -> Result<Vec<(KeyId, u64)>, StoreError> {
        Ok(self.tables().usage.top(query))
    }

    async fn prune_usage(&self, context: &RequestContext, before: UsageHour, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        Ok(self.tables().usage.prune(before, limit))
    }
}
