//! Sessions: a sealed cookie with the admin key of the person at the browser. There is no state on the server, so every node that has the
//! secrets of the configuration accepts the cookie, and each request is authenticated with the key itself.

use std::sync::Arc;

use chrono::TimeDelta;
use http::{HeaderMap, HeaderValue};
use rand::rngs::StdRng;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::clock::Timestamp;
use crate::credential::{self, Keyring, Purpose};
use crate::wire::cookie::cookie_values;

const COOKIE: &str = "keygate_console";
/// A session ends this long after its last request.
const IDLE: TimeDelta = TimeDelta::minutes(30);
/// A session ends this long after it began, also if it is used.
const LIFETIME: TimeDelta = TimeDelta::hours(12);
/// The time of the last request is written this often.
const RESOLUTION: TimeDelta = TimeDelta::minutes(1);
/// Longer than every cookie that is sealed here, in bytes.
const COOKIE_MAX: usize = 4096;
/// The longest admin key in bytes, so that a browser keeps the cookie. Longer keys than those of Keygate exist only as bootstrap keys.
pub(super) const KEY_MAX: usize = 1024;

/// A session. Before a person has signed in it has no key, only the token of the form.
#[derive(Clone)]
pub(super) struct Session {
    key: Option<SecretString>,
    /// The token that each form of the session carries.
    token: String,
    begun: Timestamp,
    seen: Timestamp,
    /// Whether the browser uses TLS.
    is_secure: bool,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<std::borrow::Cow<'a, str>>,
    token: String,
    begun: i64,
    seen: i64,
    is_secure: bool,
}

/// Seals sessions into cookies and opens them.
#[derive(Clone)]
pub(super) struct Sealer(Arc<Keyring>);

impl Session {
    /// A new session; `key` is the admin key of a person who has signed in.
    pub(super) fn begin(key: Option<SecretString>, is_secure: bool, now: Timestamp) -> Self {
        let token = hex::encode(rand::random::<[u8; 16]>());
        Self { key, token, begun: now, seen: now, is_secure }
    }

    /// The admin key, after a person has signed in.
    pub(super) fn key(&self) -> Option<&SecretString> {
        self.key.as_ref()
    }

    /// The token of the forms.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Whether a form has the token of the session.
    pub(super) fn has_token(&self, presented: &str) -> bool {
        self.token.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// The session after a request at `now`, if its time of the last request is outdated.
    pub(super) fn used(&self, now: Timestamp) -> Option<Self> {
        (now - self.seen >= RESOLUTION).then(|| Self { seen: now, ..self.clone() })
    }

    fn is_current(&self, now: Timestamp) -> bool {
        now - self.seen < IDLE && now - self.begun < LIFETIME
    }
}

impl Sealer {
    /// A sealer with the secrets of a configuration.
    pub(super) fn new(keyring: Arc<Keyring>) -> Self {
        Self(keyring)
    }

    /// The session in the cookie of a request; `None` without one that is valid at `now`.
    pub(super) fn open(&self, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
        let names = [COOKIE.into()];
        let mut values = cookie_values(headers, &names).filter_map(|value| std::str::from_utf8(value).ok());
        values.find_map(|value| self.open_text(value, now))
    }

    fn open_text(&self, value: &str, now: Timestamp) -> Option<Session> {
        let text = credential::open(value, &self.0, Purpose::ConsoleSession, now, COOKIE_MAX)?;
        let sealed: Sealed<'_> = serde_json::from_str(&text).ok()?;
        let session = Session {
            key: sealed.key.map(|key| key.into_owned().into()),
            token: sealed.token,
            begun: Timestamp::from_timestamp(sealed.begun, 0)?,
            seen: Timestamp::from_timestamp(sealed.seen, 0)?,
            is_secure: sealed.is_secure,
        };
        session.is_current(now).then_some(session)
    }

    /// The value of `Set-Cookie` for a session.
    pub(super) fn cookie(&self, session: &Session) -> Option<HeaderValue> {
        let sealed = Sealed {
            key: session.key.as_ref().map(|key| key.expose_secret().into()),
            token: session.token.clone(),
            begun: session.begun.timestamp(),
            seen: session.seen.timestamp(),
            is_secure: session.is_secure,
        };
        let text = serde_json::to_string(&sealed).ok()?;
        let mut rng: StdRng = rand::make_rng();
        let value = credential::seal(&text, &self.0, Purpose::ConsoleSession, &mut rng);
        let secure = if session.is_secure { "; Secure" } else { "" };
        let seconds = IDLE.num_seconds();
        let cookie = format!("{COOKIE}={value}; Path=/console; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        let mut cookie = HeaderValue::try_from(cookie).ok()?;
        cookie.set_sensitive(true);
        Some(cookie)
    }

    /// The value of `Set-Cookie` that removes the cookie.
    pub(super) fn removal() -> HeaderValue {
        HeaderValue::from_static("keygate_console=; Path=/console; HttpOnly; SameSite=Strict; Max-Age=0")
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE as COOKIE_HEADER;

    use super::*;
    use crate::credential::Retired;

    const KEY: &str = "kgadmin_an-admin-key-0123456789";

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_timestamp(1_780_000_000 + 60 * minutes, 0).unwrap()
    }

    fn sealer(current: &str, retired: &[&str]) -> Sealer {
        let retired: Vec<_> =
            retired.iter().map(|text| Retired { value: (*text).to_owned().into(), expires_at: None }).collect();
        Sealer::new(Arc::new(Keyring::new(&current.to_owned().into(), &retired)))
    }

    fn session(now: Timestamp) -> Session {
        Session::begin(Some(KEY.to_owned().into()), true, now)
    }

    /// The headers of a request with the cookie that a response sets.
    fn headers(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE_HEADER, HeaderValue::try_from(format!("other=1; {pair}")).unwrap())])
    }

    #[test]
    fn every_node_with_the_secret_opens_the_cookie() {
        let begun = session(at(0));
        let cookie = sealer("old", &[]).cookie(&begun).unwrap();
        assert!(!cookie.to_str().unwrap().contains(KEY) && cookie.is_sensitive());
        for other in [sealer("old", &[]), sealer("new", &["old"])] {
            let opened = other.open(&headers(&cookie), at(0)).unwrap();
            assert_eq!(opened.key().unwrap().expose_secret(), KEY);
            assert!(opened.has_token(begun.token()) && !opened.has_token("") && !opened.has_token("x"));
        }
        assert!(sealer("new", &[]).open(&headers(&cookie), at(0)).is_none());
    }

    #[test]
    fn session_ends_after_idle_time_and_after_its_lifetime() {
        let sealer = sealer("secret", &[]);
        let opens = |session: &Session, now| sealer.open(&headers(&sealer.cookie(session).unwrap()), now).is_some();
        let mut session = session(at(0));
        assert!(opens(&session, at(29)) && !opens(&session, at(30)));
        assert!(session.used(at(0)).is_none(), "the cookie is not sealed again at each request");
        for minutes in (20..12 * 60).step_by(20) {
            session = session.used(at(minutes)).unwrap();
            assert!(opens(&session, at(minutes)), "{minutes}");
        }
        assert!(!opens(&session.used(at(12 * 60)).unwrap(), at(12 * 60)));
    }

    #[test]
    fn modified_cookie_is_not_a_session() {
        let sealer = sealer("secret", &[]);
        let cookie = sealer.cookie(&session(at(0))).unwrap().to_str().unwrap().to_owned();
        let value = cookie.split(';').next().unwrap().split_once('=').unwrap().1.to_owned();
        assert!(sealer.open_text(&value, at(0)).is_some());
        for index in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            assert!(sealer.open_text(std::str::from_utf8(&bytes).unwrap(), at(0)).is_none(), "{index}");
        }
        for text in ["", "A", &value[1..], &"A".repeat(5000)] {
            assert!(sealer.open_text(text, at(0)).is_none());
        }
    }

    #[test]
    fn cookie_is_not_readable_by_scripts_and_not_sent_by_other_sites() {
        let cookie = sealer("secret", &[]).cookie(&session(at(0))).unwrap();
        let cookie = cookie.to_str().unwrap();
        for attribute in ["; HttpOnly", "; SameSite=Strict", "; Secure", "; Path=/console"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        let clear = Session::begin(None, false, at(0));
        assert!(!sealer("secret", &[]).cookie(&clear).unwrap().to_str().unwrap().contains("Secure"));
    }
}
