//! Listing keys (contract, admin API section 5.2).

use super::error::{LifecycleError, invalid};
use super::write_side::Lifecycle;
use crate::id::KeyKind;
use crate::key::{ApiKey, KeyFilter, PageTokenError, open_page_token, seal_page_token};
use crate::request_context::RequestContext;
use crate::store::PageQuery;

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 1000;

/// A request for a page.
#[derive(Debug, Clone, Default)]
pub struct ListKeys {
    /// 0 to 1000; 0 means 50.
    pub page_size: u32,
    /// The token that the previous page returned; empty for the first page.
    pub page_token: String,
    /// The filter; see [`KeyFilter`].
    pub filter: String,
}

/// A page of keys.
#[derive(Debug)]
pub struct Page {
    /// The keys: by descending id, or in the order of the search.
    pub keys: Vec<ApiKey>,
    /// The token of the next page; empty on the last one.
    pub next_page_token: String,
}

impl Lifecycle {
    /// Returns a page of keys of one kind, of the actors of the context.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`] for an invalid size, token or filter, or a failure of the store.
    pub async fn list(
        &self,
        context: &RequestContext,
        kind: KeyKind,
        request: &ListKeys,
    ) -> Result<Page, LifecycleError> {
        let tenant = context.tenant;
        let size = page_size(request.page_size)?;
        let filter = KeyFilter::parse(&request.filter).map_err(|error| LifecycleError::Invalid(error.to_string()))?;
        let now = self.now();
        let before = match request.page_token.as_str() {
            "" => None,
            token => Some(open_page_token(token, &self.settings.keyring, (tenant, kind), now)?),
        };
        // One more key than the page holds shows whether there is another page.
        let query = PageQuery { tenant, kind, filter: &filter, actors: &context.actors, before, limit: size + 1, now };
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

/// The number of keys on a page.
pub(super) fn page_size(requested: u32) -> Result<u32, LifecycleError> {
    match requested {
        0 => Ok(PAGE_SIZE_DEFAULT),
        1..=PAGE_SIZE_MAX => Ok(requested),
        _ => invalid(format!("page_size must be between 0 and {PAGE_SIZE_MAX}")),
    }
}

impl From<PageTokenError> for LifecycleError {
    fn from(error: PageTokenError) -> Self {
        Self::Invalid(error.to_string())
    }
}
