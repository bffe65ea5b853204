//! Pages of keys (contract, admin API section 5.2).

use super::{Lifecycle, LifecycleError, invalid};
use crate::id::KeyKind;
use crate::key::{ApiKey, KeyFilter, PageTokenError, open_page_token, seal_page_token};
use crate::request_context::RequestContext;
use crate::store::PageQuery;

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 1000;

/// What a caller wants to see.
#[derive(Debug, Clone, Default)]
pub struct ListKeys {
    /// 0 to 1000; 0 means 50.
    pub page_size: u32,
    /// What the page before gave; empty for the first page.
    pub page_token: String,
    /// Which keys; see [`KeyFilter`].
    pub filter: String,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The keys, by descending id.
    pub keys: Vec<ApiKey>,
    /// What asks for the next page; empty on the last one.
    pub next_page_token: String,
}

impl Lifecycle {
    /// A page of keys of one kind.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`] for a size, token or filter that is none, or a failure of the store.
    pub async fn list(
        &self,
        context: &RequestContext,
        kind: KeyKind,
        wanted: &ListKeys,
    ) -> Result<Page, LifecycleError> {
        let tenant = context.tenant;
        let size = match wanted.page_size {
            0 => PAGE_SIZE_DEFAULT,
            1..=PAGE_SIZE_MAX => wanted.page_size,
            _ => return invalid(format!("page_size must be between 0 and {PAGE_SIZE_MAX}")),
        };
        let filter = KeyFilter::parse(&wanted.filter).map_err(|error| LifecycleError::Invalid(error.to_string()))?;
        let now = self.now();
        let before = match wanted.page_token.as_str() {
            "" => None,
            token => Some(open_page_token(token, &self.settings.keyring, (tenant, kind), now)?),
        };
        // One key more than shown tells whether there is another page.
        let query = PageQuery { tenant, kind, filter: &filter, before, limit: size + 1, now };
        let mut keys = self.store.list(&query).await?;
        let more = keys.len() > size as usize;
        keys.truncate(size as usize);
        let next_page_token = match keys.last() {
            Some(last) if more => seal_page_token((tenant, last.id), &self.settings.keyring, now, &mut *self.rng()),
            _ => String::new(),
        };
        Ok(Page { keys, next_page_token })
    }
}

impl From<PageTokenError> for LifecycleError {
    fn from(error: PageTokenError) -> Self {
        Self::Invalid(error.to_string())
    }
}
