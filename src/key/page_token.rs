//! Page tokens: encrypted pagination cursors (contract, credentials section 9). Opaque to clients, bound to one tenant, valid
//! for one hour.
//!
//! A token is a sealed text with its expiry, the tenant and the last key of the page.

use chrono::TimeDelta;
use rand::Rng;

use super::search::{SearchOrder, SearchPosition};
use crate::clock::Timestamp;
use crate::credential::{self, Keyring, Purpose};
use crate::id::{KeyId, KeyKind, TenantId};

const LIFETIME: TimeDelta = TimeDelta::hours(1);
/// Longer than every token created here, in bytes: a name has at most 255 characters.
const TOKEN_MAX: usize = 2048;

/// Why a page token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageTokenError {
    /// The token was not created here, was modified, or has expired.
    #[error("invalid page token")]
    Invalid,
    /// The token belongs to another tenant.
    #[error("page token network mismatch")]
    ForeignTenant,
}

/// What a page token of any installation says about its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageTokenOrigin {
    /// It was made with a secret of this keyring, for this tenant.
    SameSecret,
    /// It was made with a secret of this keyring, for another tenant.
    OtherTenant,
    /// It was made with another secret, or with another cipher.
    Unknown,
}

/// Says whether the installation that made a token has a secret of this keyring. The expiry of the token is not checked.
pub fn page_token_origin(token: &str, keyring: &Keyring, tenant: TenantId, now: Timestamp) -> PageTokenOrigin {
    match credential::open(token, keyring, Purpose::PageToken, now, TOKEN_MAX) {
        Some(text) if text.contains(&tenant.to_string()) => PageTokenOrigin::SameSecret,
        Some(_) => PageTokenOrigin::OtherTenant,
        None => PageTokenOrigin::Unknown,
    }
}

/// Creates a token for the page that starts after the key `last`.
pub fn seal_page_token(
    (tenant, last): (TenantId, KeyId),
    keyring: &Keyring,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> String {
    seal(tenant, &last.to_string(), keyring, now, rng)
}

/// Decrypts a token and returns the key after which its page starts.
///
/// # Errors
/// [`PageTokenError`].
pub fn open_page_token(
    token: &str,
    keyring: &Keyring,
    (tenant, kind): (TenantId, KeyKind),
    now: Timestamp,
) -> Result<KeyId, PageTokenError> {
    KeyId::parse(kind, &open(token, keyring, tenant, now)?).ok_or(PageTokenError::Invalid)
}

/// Creates a token for the page of a search that starts after `last`.
pub fn seal_search_token(
    (tenant, order, last): (TenantId, SearchOrder, &SearchPosition),
    keyring: &Keyring,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> String {
    let text = format!("{} {} {}", order.name(), last.id, SearchOrder::value_text(last));
    seal(tenant, &text, keyring, now, rng)
}

/// Decrypts a token of a search in this order and returns the position after which its page starts.
///
/// # Errors
/// [`PageTokenError`], also for a token of another order.
pub fn open_search_token(
    token: &str,
    keyring: &Keyring,
    (tenant, order): (TenantId, SearchOrder),
    now: Timestamp,
) -> Result<SearchPosition, PageTokenError> {
    let text = open(token, keyring, tenant, now)?;
    let mut words = text.splitn(3, ' ');
    let mut next = || words.next().ok_or(PageTokenError::Invalid);
    let (name, id, value) = (next()?, next()?, next()?);
    let id = KeyId::parse_issued(id).or_else(|| KeyId::parse_imported(id));
    let position = id.filter(|_| name == order.name()).and_then(|id| order.parse_position(id, value));
    position.ok_or(PageTokenError::Invalid)
}

fn seal(tenant: TenantId, last: &str, keyring: &Keyring, now: Timestamp, rng: &mut dyn Rng) -> String {
    let text = format!("{} {tenant} {last}", (now + LIFETIME).timestamp());
    credential::seal(&text, keyring, Purpose::PageToken, rng)
}

/// Decrypts a token and returns what it says about the last key of the page.
fn open(token: &str, keyring: &Keyring, tenant: TenantId, now: Timestamp) -> Result<String, PageTokenError> {
    let text = credential::open(token, keyring, Purpose::PageToken, now, TOKEN_MAX).ok_or(PageTokenError::Invalid)?;
    let (expiry, rest) = text.split_once(' ').ok_or(PageTokenError::Invalid)?;
    let (token_tenant, last) = rest.split_once(' ').ok_or(PageTokenError::Invalid)?;
    if !expiry.parse().is_ok_and(|expiry| now.timestamp() < expiry) {
        return Err(PageTokenError::Invalid);
    }
    if token_tenant != tenant.to_string() {
        return Err(PageTokenError::ForeignTenant);
    }
    Ok(last.to_owned())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use uuid::Uuid;

    use super::*;
    use crate::credential::Retired;
    use crate::key::OrderValue;

    const LAST: KeyId = KeyId::Issued(Uuid::from_u128(7));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
    }

    fn keyring(current: &str, retired: &[&str]) -> Keyring {
        let retired: Vec<_> =
            retired.iter().map(|text| Retired { value: (*text).to_owned().into(), expires_at: None }).collect();
        Keyring::new(&current.to_owned().into(), &retired)
    }

    fn token() -> String {
        seal_page_token((TenantId::NIL, LAST), &keyring("old", &[]), at(0), &mut StdRng::seed_from_u64(1))
    }

    fn opened(token: &str, keyring: &Keyring, tenant: TenantId, now: Timestamp) -> Result<KeyId, PageTokenError> {
        open_page_token(token, keyring, (tenant, KeyKind::Issued), now)
    }

    #[test]
    fn token_is_valid_for_one_tenant_one_kind_and_one_hour() {
        let ring = keyring("old", &[]);
        assert_eq!(opened(&token(), &ring, TenantId::NIL, at(3599)), Ok(LAST));
        assert_eq!(opened(&token(), &ring, TenantId::NIL, at(3600)), Err(PageTokenError::Invalid));
        let other = TenantId(Uuid::from_u128(1));
        assert_eq!(opened(&token(), &ring, other, at(0)), Err(PageTokenError::ForeignTenant));
        let imported = open_page_token(&token(), &ring, (TenantId::NIL, KeyKind::Imported), at(0));
        assert_eq!(imported, Err(PageTokenError::Invalid));
    }

    #[test]
    fn token_stays_valid_while_its_secret_is_retired() {
        assert_eq!(opened(&token(), &keyring("new", &["old"]), TenantId::NIL, at(0)), Ok(LAST));
        assert_eq!(opened(&token(), &keyring("new", &[]), TenantId::NIL, at(0)), Err(PageTokenError::Invalid));
    }

    #[test]
    fn origin_of_a_token_is_known_by_its_secret_and_its_tenant() {
        let origin = |keyring: &Keyring, tenant| {
            page_token_origin(&token(), keyring, TenantId(Uuid::from_u128(tenant)), at(9999))
        };
        assert_eq!(origin(&keyring("old", &[]), 0), PageTokenOrigin::SameSecret);
        assert_eq!(origin(&keyring("new", &["old"]), 0), PageTokenOrigin::SameSecret);
        assert_eq!(origin(&keyring("old", &[]), 1), PageTokenOrigin::OtherTenant);
        assert_eq!(origin(&keyring("new", &[]), 0), PageTokenOrigin::Unknown);
    }

    #[test]
    fn token_of_a_search_returns_its_position_in_its_order_only() {
        let ring = keyring("old", &[]);
        for (order, value) in [
            (SearchOrder::KeyId, None),
            (SearchOrder::Name, Some(OrderValue::Text(" \u{10ffff} x".repeat(51)))),
            (SearchOrder::Expiry, Some(OrderValue::Time(at(7)))),
        ] {
            for id in [LAST, KeyId::Imported([7; 32])] {
                let position = SearchPosition { value: value.clone(), id };
                let mut random = StdRng::seed_from_u64(1);
                let token = seal_search_token((TenantId::NIL, order, &position), &ring, at(0), &mut random);
                for other in SearchOrder::ALL {
                    let opened = open_search_token(&token, &ring, (TenantId::NIL, other), at(0));
                    let expected = if other == order { Ok(position.clone()) } else { Err(PageTokenError::Invalid) };
                    assert_eq!(opened, expected, "{order:?} {other:?}");
                }
                assert_eq!(opened(&token, &ring, TenantId::NIL, at(0)), Err(PageTokenError::Invalid));
            }
        }
        let page = open_search_token(&token(), &ring, (TenantId::NIL, SearchOrder::KeyId), at(0));
        assert_eq!(page, Err(PageTokenError::Invalid), "a token of a list");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_rejected(text in "[A-Za-z0-9_=-]{0,200}") {
            prop_assert!(opened(&text, &keyring("old", &[]), TenantId::NIL, at(0)).is_err());
        }

        #[test]
        fn modified_token_is_rejected(index in 0usize..1000, bit in 0u8..6) {
            let ring = keyring("old", &[]);
            let token = token();
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let index = index % bytes.len();
            bytes[index] ^= 1 << bit;
            let changed = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(opened(&changed, &ring, TenantId::NIL, at(0)), Err(PageTokenError::Invalid));
        }
    }
}
