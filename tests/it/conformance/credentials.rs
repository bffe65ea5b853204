//! The credentials that the rows present: each kind in each state, made through the admin API.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use keygate::config::Config;
use keygate::engine::Engine;
use keygate::id::TenantId;
use keygate::key::KeyDraft;
use keygate::request_context::RequestContext;
use keygate::store::MemoryStore;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::keygate::{HMAC_SECRET, Keygate, merge};
use crate::support::wait::wait_for;

/// The kind of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Issued,
    Imported,
    /// Derived from an issued key.
    Jwt,
    /// Derived from an imported key.
    Macaroon,
}

/// What is special about a credential. For a derived token, revocation, the address rule and the limit are those of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Valid,
    /// Its checksum or signature is wrong. An imported key has neither: it was never imported.
    Forged,
    /// An issued key with a valid checksum that no store has.
    Unknown,
    Expired,
    Revoked,
    /// It has scopes, but not `read:orders`.
    OtherScope,
    /// It may be used from loopback only.
    Loopback,
    /// It may be used from 192.0.2.0/24 only.
    OtherAddress,
    /// Its audience is [`AUDIENCE`].
    Audience,
    /// Its audience is another one.
    OtherAudience,
    /// Its limit is 5 requests per hour.
    Limited,
    /// Its limit is 1 request per hour.
    Single,
    /// The client that presents it is limited by the route, not by the key.
    LimitedByRoute,
}

/// A credential as it is presented, and what the upstream must learn of it.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) text: String,
    /// The id of the key, or of the parent of a token.
    pub(crate) key_id: String,
    pub(crate) scopes: &'static [&'static str],
}

/// All credentials.
pub(crate) type Credentials = HashMap<(Kind, State), Credential>;

/// The audience of the route `/bound`.
pub(crate) const AUDIENCE: &str = "https://a.example";
/// The actor of all keys.
pub(crate) const ACTOR: &str = "ana";

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Issued, Self::Imported, Self::Jwt, Self::Macaroon];

    pub(crate) fn is_derived(self) -> bool {
        matches!(self, Self::Jwt | Self::Macaroon)
    }

    /// The value of `X-Keygate-Credential-Type`.
    pub(crate) fn wire_name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Imported => "imported",
            Self::Jwt => "derived_jwt",
            Self::Macaroon => "derived_macaroon",
        }
    }

    /// The states that a credential of this kind can have.
    fn states(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |state| match state {
            State::Audience | State::OtherAudience => self.is_derived(),
            State::Unknown => self == Self::Issued,
            _ => true,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Issued => "issued key",
            Self::Imported => "imported key",
            Self::Jwt => "JWT",
            Self::Macaroon => "macaroon",
        })
    }
}

impl State {
    const ALL: [Self; 13] = [
        Self::Valid,
        Self::Forged,
        Self::Unknown,
        Self::Expired,
        Self::Revoked,
        Self::OtherScope,
        Self::Loopback,
        Self::OtherAddress,
        Self::Audience,
        Self::OtherAudience,
        Self::Limited,
        Self::Single,
        Self::LimitedByRoute,
    ];

    /// What a reader of the matrix must know about a credential of this kind.
    pub(crate) fn describe(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Valid | Self::LimitedByRoute, _) => "valid",
            (Self::Forged, Kind::Issued) => "wrong checksum",
            (Self::Forged, Kind::Imported) | (Self::Unknown, _) => "unknown",
            (Self::Forged, _) => "wrong signature",
            (Self::Expired, _) => "expired",
            (Self::Revoked, Kind::Jwt | Kind::Macaroon) => "parent revoked",
            (Self::Revoked, _) => "revoked",
            (Self::OtherScope, _) => "with another scope",
            (Self::Loopback, _) => "for this address",
            (Self::OtherAddress, _) => "for another address",
            (Self::Audience, _) => "with the audience",
            (Self::OtherAudience, _) => "with another audience",
            (Self::Limited, _) => "with a limit",
            (Self::Single, _) => "limit used up",
        }
    }

    fn scopes(self) -> &'static [&'static str] {
        if self == Self::OtherScope { &["other"] } else { &["read:orders", "other"] }
    }

    /// The fields of a key in this state, or of the parent of a token.
    fn key_fields(self, is_parent: bool) -> Value {
        let mut fields = json!({"actor_id": ACTOR, "scopes": State::Valid.scopes()});
        let policy = |quota: &str| json!({"rate_limit_policy": {"quota": quota, "window": "3600s"}});
        let addresses = |range: &str| json!({"ip_restriction": {"allowed_cidrs": [range]}});
        let more = match self {
            Self::Loopback => addresses("127.0.0.0/8"),
            Self::OtherAddress => addresses("192.0.2.0/24"),
            Self::Limited => policy("5"),
            Self::Single => policy("1"),
            Self::Expired if !is_parent => json!({"ttl": "1s"}),
            Self::OtherScope if !is_parent => json!({"scopes": self.scopes()}),
            _ => json!({}),
        };
        merge(&mut fields, &more);
        fields
    }

    /// The fields of the request that derives a token in this state.
    fn token_fields(self) -> Value {
        match self {
            Self::Expired => json!({"ttl": "1s"}),
            Self::OtherScope => json!({"scopes": self.scopes()}),
            Self::Audience => json!({"audiences": [AUDIENCE]}),
            Self::OtherAudience => json!({"audiences": ["https://b.example"]}),
            _ => json!({}),
        }
    }
}

/// Makes all credentials, and waits until those that expire have expired.
pub(crate) async fn make(keygate: &Keygate) -> Credentials {
    let mut credentials = Credentials::new();
    for kind in Kind::ALL {
        for state in kind.states() {
            credentials.insert((kind, state), make_one(keygate, kind, state).await);
        }
    }
    for kind in Kind::ALL {
        wait_until_invalid(keygate, &credentials[&(kind, State::Expired)].text).await;
    }
    credentials
}

async fn make_one(keygate: &Keygate, kind: Kind, state: State) -> Credential {
    let scopes = state.scopes();
    if state == State::Unknown {
        return Credential { text: issue_elsewhere().await, key_id: String::new(), scopes };
    }
    let fields = state.key_fields(kind.is_derived());
    let is_issued = matches!(kind, Kind::Issued | Kind::Jwt);
    let (key_id, key) =
        if is_issued { keygate.issue(fields).await } else { import(keygate, kind, state, fields).await };
    let text = match kind {
        Kind::Issued | Kind::Imported => key,
        Kind::Jwt => derive(keygate, &key, "TOKEN_ALGORITHM_JWT", state).await,
        Kind::Macaroon => derive(keygate, &key, "TOKEN_ALGORITHM_MACAROON", state).await,
    };
    if state == State::Revoked {
        let keys = if is_issued { "issuedApiKeys" } else { "importedApiKeys" };
        let response = keygate.post(&format!("{keys}/{key_id}:revoke"), &json!({})).await;
        assert!(response.status().is_success(), "{kind}: {response:?}");
    }
    let text = if state == State::Forged { forge(kind, &text) } else { text };
    Credential { text, key_id, scopes }
}

async fn import(keygate: &Keygate, kind: Kind, state: State, mut fields: Value) -> (String, String) {
    let key = format!("sk_live_{}_{state:?}", kind.wire_name());
    fields["raw_key"] = key.clone().into();
    (keygate.import(fields).await, key)
}

/// Derives a token. The address rule of the parent is checked then too, so the request has an address that satisfies it.
async fn derive(keygate: &Keygate, parent: &str, algorithm: &str, state: State) -> String {
    let mut body = json!({"credential": parent, "algorithm": algorithm});
    merge(&mut body, &state.token_fields());
    let address = if state == State::OtherAddress { "192.0.2.1" } else { "127.0.0.1" };
    let url = format!("{}/v2alpha1/admin/apiKeys:derive", keygate.admin);
    let response = keygate.http.post(url).header("x-real-ip", address).body(body.to_string()).send().await.unwrap();
    let status = response.status();
    let response: Value = response.json().await.unwrap();
    assert_eq!(status, 200, "{state:?}: {response}");
    response["token"]["token"].as_str().unwrap().to_owned()
}

/// Changes a character of the checksum or of the signature. An imported key becomes another one.
fn forge(kind: Kind, text: &str) -> String {
    // The last character of base64 may encode unused bits, which do not change the signature.
    let at = if kind == Kind::Issued { text.len() - 1 } else { text.len() - 8 };
    let other = if text.as_bytes()[at] == b'3' { "2" } else { "3" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

/// A key that another Keygate with the same secret has issued.
async fn issue_elsewhere() -> String {
    let config = Config::new("https://keys.example.com".into(), HMAC_SECRET.to_owned().into(), "memory".into());
    let store = Arc::new(MemoryStore::default());
    let engine = Engine::over(store, &config, &prometheus::Registry::new()).unwrap();
    let draft = KeyDraft { name: "elsewhere".into(), actor_id: ACTOR.into(), ..KeyDraft::default() };
    let issued = engine.lifecycle.issue(&RequestContext::system(TenantId::NIL), draft).await.unwrap();
    issued.secret.unwrap().expose_secret().to_owned()
}

async fn wait_until_invalid(keygate: &Keygate, credential: &str) {
    wait_for(async || {
        let response = keygate.post("apiKeys:verify", &json!({"credential": credential})).await;
        let verified: Value = response.json().await.unwrap();
        if verified["is_valid"] == false { Ok(()) } else { Err(format!("still valid: {verified}")) }
    })
    .await;
}
