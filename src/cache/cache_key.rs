//! The key of a cached record.

use crate::id::{KeyId, TenantId};

/// The key of a cached record.
pub type CacheKey = (TenantId, KeyId);
