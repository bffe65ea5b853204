//! The introspection response (RFC 7662 section 2.2), from a verdict.

use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::rate_limit_status::RateLimitStatus;
use crate::credential::IssuedKey;
use crate::verifier::Verdict;

/// The description of a credential. The default is `{"active":false}`. Times are in whole seconds since 1970; a member without a
/// value is absent.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = IntrospectionResponse)]
pub(in crate::admin) struct Introspection<'a> {
    /// Whether the credential is accepted.
    active: bool,
    /// The scopes as in `X-Keygate-Scopes`: separated by spaces; spaces inside a scope are percent-encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<&'a str>,
    /// The id of the key, or of the parent of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_id: Option<String>,
    /// The actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    aud: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    jti: Option<&'a str>,
    /// The kind of the credential, as in `X-Keygate-Credential-Type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token_type: Option<&'static str>,
    /// Whether the use exceeds the limit of the key, if it was charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rate_limit_exceeded: Option<bool>,
    /// The remaining uses, if the use was charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rate_limit_remaining: Option<i64>,
}

impl<'a> Introspection<'a> {
    /// Describes an accepted credential with the text `credential`. `issuer` is the current issuer, which stands for keys.
    pub(super) fn active(verdict: &'a Verdict, credential: &str, issuer: &'a str) -> Self {
        let token = verdict.token();
        // A key's record in the caches has no issue time. The text of an issued key has it, under the checksum.
        let issue_time = match token {
            Some(token) => token.issue_time.map(|time| time.timestamp()),
            None => verdict.record().and(IssuedKey::parse(credential)).map(|key| key.issued_at()),
        };
        Self {
            active: true,
            scope: std::str::from_utf8(verdict.grant().field()).ok().filter(|scopes| !scopes.is_empty()),
            client_id: Some(verdict.key_id().to_string()),
            sub: Some(verdict.actor_id()).filter(|actor| !actor.is_empty()),
            aud: verdict.audiences(),
            exp: verdict.expire_time().map(|time| time.timestamp()),
            iat: issue_time,
            nbf: token.and_then(|token| token.not_before).map(|time| time.timestamp()),
            iss: Some(token.map_or(issuer, |token| &token.issuer)),
            jti: token.and_then(|token| token.id.as_deref()),
            token_type: Some(verdict.kind().name()),
            rate_limit_exceeded: None,
            rate_limit_remaining: None,
        }
    }

    /// Adds the result of a charge. The members stay absent if the use was not counted.
    pub(super) fn charged(self, rate_limit: &RateLimitStatus) -> Self {
        Self {
            rate_limit_exceeded: rate_limit.is_counted().then(|| rate_limit.is_exceeded()),
            rate_limit_remaining: rate_limit.remaining(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use arc_swap::ArcSwap;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::cache::{Caches, RevokedParents};
    use crate::clock::{ManualClock, Timestamp};
    use crate::config::Config;
    use crate::credential::SigningKeys;
    use crate::engine::{Engine, EngineParts};
    use crate::id::TenantId;
    use crate::key::KeyDraft;
    use crate::lifecycle::{DeriveToken, ImportKey, TokenForm};
    use crate::request_context::RequestContext;
    use crate::store::MemoryStore;
    use crate::verifier::Presented;

    const SIGNING_KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","use":"sig",
        "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

    /// An engine whose clock stands at 1780000000.
    fn engine() -> Engine {
        let secret = "a secret of at least 32 characters".to_owned();
        let config = Config::new("https://keys.example.com".into(), secret.into(), "memory".into());
        let revoked_parents = Arc::new(RevokedParents::new(Duration::from_secs(3600), 1));
        let parts = EngineParts {
            config: &config,
            store: Arc::new(MemoryStore::default()),
            caches: Caches::alone(None, revoked_parents),
            signing_keys: Arc::new(ArcSwap::from_pointee(SigningKeys::parse(SIGNING_KEYS).unwrap())),
            clock: Arc::new(ManualClock::new(Timestamp::from_timestamp(1_780_000_000, 0).unwrap())),
            tracker: None,
            throttle: None,
        };
        Engine::new(parts, &prometheus::Registry::new()).unwrap()
    }

    fn context() -> RequestContext {
        RequestContext::system(TenantId::NIL)
    }

    fn draft(scopes: &[&str]) -> KeyDraft {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        KeyDraft {
            name: "n".into(),
            actor_id: "ana".into(),
            scopes,
            ttl: Some(Duration::from_secs(7200)),
            ..KeyDraft::default()
        }
    }

    impl Engine {
        async fn issue(&self, scopes: &[&str]) -> String {
            let issued = self.lifecycle.issue(&context(), draft(scopes)).await.unwrap();
            issued.secret.unwrap().expose_secret().to_owned()
        }

        async fn import(&self, raw_key: &str) -> String {
            let import = ImportKey { raw_key: raw_key.to_owned().into(), draft: draft(&["read"]) };
            self.lifecycle.import(&context(), import).await.unwrap();
            raw_key.to_owned()
        }

        async fn verdict(&self, credential: &str, audiences: &[String]) -> Verdict {
            let presented = Presented { audiences, ..Presented::new(TenantId::NIL, credential, Instant::now()) };
            self.verifier.verify(&presented).await.outcome.unwrap()
        }

        async fn derive(&self, form: TokenForm, audiences: &[String]) -> String {
            let parent = self.verdict(&self.issue(&["read", "write"]).await, &[]).await;
            let command = DeriveToken {
                form,
                audiences: audiences.to_vec(),
                ttl: Some(Duration::from_secs(600)),
                ..DeriveToken::default()
            };
            let derived = self.lifecycle.derive(&context(), parent.record().unwrap(), command).await.unwrap();
            derived.token.expose_secret().to_owned()
        }

        async fn described(&self, credential: &str, audiences: &[String]) -> String {
            let verdict = self.verdict(credential, audiences).await;
            let described = Introspection::active(&verdict, credential, self.verifier.issuer());
            serde_json::to_string_pretty(&described).unwrap()
        }
    }

    fn with_filters(check: impl FnOnce()) {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"[0-9a-f]{8}-[0-9a-f-]{27}", "[uuid]");
        settings.add_filter(r"[0-9a-f]{64}", "[hash]");
        settings.bind(check);
    }

    #[test]
    fn inactive_response_has_no_other_member() {
        assert_eq!(serde_json::to_string(&Introspection::default()).unwrap(), r#"{"active":false}"#);
    }

    #[tokio::test]
    async fn issued_key_has_the_issue_time_of_its_text() {
        let engine = engine();
        let key = engine.issue(&["read:orders", "write:orders"]).await;
        let text = engine.described(&key, &[]).await;
        with_filters(|| {
            insta::assert_snapshot!(text, @r#"
            {
              "active": true,
              "scope": "read:orders write:orders",
              "client_id": "[uuid]",
              "sub": "ana",
              "exp": 1780007200,
              "iat": 1780000000,
              "iss": "https://keys.example.com",
              "token_type": "issued"
            }
            "#);
        });
    }

    #[tokio::test]
    async fn imported_key_has_no_issue_time() {
        let engine = engine();
        let text = engine.described(&engine.import("sk_live_1").await, &[]).await;
        with_filters(|| {
            insta::assert_snapshot!(text, @r#"
            {
              "active": true,
              "scope": "read",
              "client_id": "[hash]",
              "sub": "ana",
              "exp": 1780007200,
              "iss": "https://keys.example.com",
              "token_type": "imported"
            }
            "#);
        });
    }

    #[tokio::test]
    async fn jwt_has_the_claims_of_the_token_and_the_actor_as_subject() {
        let engine = engine();
        let audiences = ["https://a.example".to_owned(), "https://b.example".to_owned()];
        let token = engine.derive(TokenForm::Jwt, &audiences).await;
        let text = engine.described(&token, &audiences[..1]).await;
        with_filters(|| {
            insta::assert_snapshot!(text, @r#"
            {
              "active": true,
              "scope": "read write",
              "client_id": "[uuid]",
              "sub": "ana",
              "aud": [
                "https://a.example",
                "https://b.example"
              ],
              "exp": 1780000600,
              "iat": 1780000000,
              "nbf": 1780000000,
              "iss": "https://keys.example.com",
              "jti": "[uuid]",
              "token_type": "derived_jwt"
            }
            "#);
        });
    }

    #[tokio::test]
    async fn macaroon_has_the_members_of_a_jwt() {
        let engine = engine();
        let text = engine.described(&engine.derive(TokenForm::Macaroon, &[]).await, &[]).await;
        with_filters(|| {
            insta::assert_snapshot!(text, @r#"
            {
              "active": true,
              "scope": "read write",
              "client_id": "[uuid]",
              "sub": "ana",
              "exp": 1780000600,
              "iat": 1780000000,
              "nbf": 1780000000,
              "iss": "https://keys.example.com",
              "jti": "[uuid]",
              "token_type": "derived_macaroon"
            }
            "#);
        });
    }

    #[tokio::test]
    async fn scope_with_a_space_stays_one_scope_and_no_scopes_is_absent() {
        let engine = engine();
        let key = engine.issue(&["read all", "x%"]).await;
        assert!(engine.described(&key, &[]).await.contains(r#""scope": "read%20all x%25""#));
        let key = engine.issue(&[]).await;
        assert!(!engine.described(&key, &[]).await.contains("scope"));
    }
}
