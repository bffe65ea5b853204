//! Verified requests for the tests of programs that use [`layer`](crate::layer), without a database and without keys.
//!
//! A handler is tested with a [`Principal`] that was made for the test:
//!
//! ```
//! use http::Request;
//! use keygate::layer::Principal;
//! use keygate::testing::TestPrincipal;
//!
//! let mut request = Request::get("/orders").body(()).unwrap();
//! request.extensions_mut().insert(TestPrincipal::actor("ana").scopes(["orders:read"]).build());
//! // Call the handler with `request`.
//! assert!(request.extensions().get::<Principal>().unwrap().has_scope("orders:read"));
//! ```
//!
//! A service with its layer is tested with [`engine`] and [`issue_key`].

use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::credential::CredentialKind;
use crate::engine::{Engine, RunningEngine};
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, CachedKey, KeyDraft, Metadata};
use crate::layer::Principal;
use crate::request_context::RequestContext;
use crate::store::MemoryStore;
use crate::verifier::Verdict;

/// The HMAC secret of [`engine`].
const SECRET: &str = "a secret for tests, which protects nothing";

/// A caller for a test.
#[derive(Debug, Clone)]
#[must_use = "build it"]
pub struct TestPrincipal {
    actor_id: String,
    scopes: Vec<String>,
    metadata: Metadata,
}

impl TestPrincipal {
    /// A caller with the key of an actor, without scopes.
    pub fn actor(actor_id: impl Into<String>) -> Self {
        Self { actor_id: actor_id.into(), scopes: Vec::new(), metadata: Metadata::new() }
    }

    /// The scopes of the key.
    pub fn scopes<S: Into<String>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        Self { scopes: scopes.into_iter().map(Into::into).collect(), ..self }
    }

    /// The metadata of the key.
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// The principal. Each has another key.
    pub fn build(self) -> Principal {
        let id = KeyId::Issued(uuid::Builder::from_random_bytes(rand::random()).into_uuid());
        let key = ApiKey {
            name: "test".into(),
            actor_id: self.actor_id,
            scopes: self.scopes.into_iter().collect(),
            metadata: self.metadata,
            ..ApiKey::new(TenantId::NIL, id, SystemClock.now())
        };
        Principal::new(Verdict::of_key(Arc::new(CachedKey::from(&key)), CredentialKind::Issued))
    }
}

/// An engine over keys in memory.
///
/// # Panics
/// Never with this configuration.
pub async fn engine() -> RunningEngine {
    let config = Config::new("https://keys.example.com".into(), SECRET.to_owned().into(), "sqlite://:memory:".into());
    let engine = Engine::builder(config).store(Arc::new(MemoryStore::default())).start().await;
    engine.unwrap_or_else(|error| panic!("the engine for tests cannot be started: {error}"))
}

/// Issues a key and returns its credential.
///
/// # Panics
/// When the actor or a scope is invalid.
pub async fn issue_key<S: Into<String>>(
    engine: &RunningEngine,
    actor_id: &str,
    scopes: impl IntoIterator<Item = S>,
) -> String {
    let scopes = scopes.into_iter().map(Into::into).collect();
    let draft = KeyDraft { name: "test".into(), actor_id: actor_id.into(), scopes, ..KeyDraft::default() };
    let context = RequestContext::system(engine.config().tenant());
    let issued = engine.lifecycle().issue(&context, draft).await;
    let issued = issued.unwrap_or_else(|error| panic!("the key cannot be issued: {error}"));
    issued.secret.map(|secret| secret.expose_secret().to_owned()).unwrap_or_default()
}
