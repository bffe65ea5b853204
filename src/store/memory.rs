//! The reference implementation: what the other stores must do, in the fewest words. Keeps nothing after its end.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Inserted, KeyStore, Revoked, StoreError};
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, Revocation, Status};

/// Keys in the memory of this process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<(TenantId, KeyId), Row>>);

#[derive(Debug)]
struct Row {
    key: ApiKey,
    request_id: Option<String>,
}

type Rows = BTreeMap<(TenantId, KeyId), Row>;

impl MemoryStore {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made_by_request(rows: &Rows, tenant: TenantId, like: KeyId, request_id: &str) -> Option<ApiKey> {
    let made_it = |((row_tenant, row_id), row): &(&(TenantId, KeyId), &Row)| {
        *row_tenant == tenant
            && discriminant(row_id) == discriminant(&like)
            && row.request_id.as_deref() == Some(request_id)
    };
    rows.iter().find(made_it).map(|(_, row)| row.key.clone())
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.rows().get(&(tenant, id)).map(|row| row.key.clone()))
    }

    async fn find_by_request(
        &self,
        tenant: TenantId,
        like: KeyId,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        Ok(made_by_request(&self.rows(), tenant, like, request_id))
    }

    async fn insert(&self, key: &ApiKey, request_id: Option<&str>) -> Result<Inserted, StoreError> {
        let mut rows = self.rows();
        if let Some(first) = request_id.and_then(|id| made_by_request(&rows, key.tenant, key.id, id)) {
            return Ok(Inserted::Replay(Box::new(first)));
        }
        if rows.contains_key(&(key.tenant, key.id)) {
            return Ok(Inserted::Exists);
        }
        let row = Row { key: key.clone(), request_id: request_id.map(Into::into) };
        rows.insert((key.tenant, key.id), row);
        Ok(Inserted::New)
    }

    async fn revoke(
        &self,
        tenant: TenantId,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        let mut rows = self.rows();
        let Some(Row { key, .. }) = rows.get_mut(&(tenant, id)) else {
            return Ok(Revoked::Absent);
        };
        if key.status != Status::Active {
            return Ok(Revoked::Already);
        }
        key.status = Status::Revoked(revocation.clone());
        key.update_time = now;
        key.expire_time = Some(Revocation::expiry(now, key.expire_time));
        key.version += 1;
        Ok(Revoked::Done(Box::new(key.clone())))
    }

    async fn count_active(&self, tenant: TenantId) -> Result<u64, StoreError> {
        let rows = self.rows();
        let active = rows.iter().filter(|((owner, _), row)| *owner == tenant && row.key.status == Status::Active);
        Ok(active.count() as u64)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
