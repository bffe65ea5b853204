//! API keys: the stored key, the commands that change it, and its forms in caches, filters and page tokens. No storage, no
//! clock, no secrets.

mod api_key;
mod cached_key;
mod change;
mod draft;
mod filter;
mod header_value;
mod interner;
mod limits;
mod page_token;
mod search;
mod status;

pub use api_key::{ApiKey, Metadata};
pub use cached_key::{Actor, CachedKey, Grant};
pub use change::{KeyChange, RotateKey};
pub use draft::{KeyDraft, RevokeKey};
pub use filter::{FilterError, KeyFilter};
pub use header_value::{encode_text, encode_words};
#[cfg(feature = "admin")]
pub(crate) use limits::check_key;
pub use limits::{InvalidField, check_ranges, check_scopes};
#[doc(hidden)]
pub use page_token::{
    PageTokenError, PageTokenOrigin, open_page_token, open_search_token, page_token_origin, seal_page_token,
    seal_search_token,
};
pub(crate) use search::KEY_ID_MAX;
pub use search::{KeySearch, OrderValue, SearchOrder, SearchPosition};
pub use status::{EffectiveStatus, Revocation, RevocationReason, Status};
