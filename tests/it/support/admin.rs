//! The admin API as somebody calls it who also makes mistakes: any method, any path, any bytes.

use reqwest::Body;
use serde_json::{Value, json};

use super::keygate::{Keygate, merge};
use super::wait::wait_for;

/// A JWK set with a private Ed25519 key; the seed is the bytes 0 to 31.
pub(crate) const SIGNING_KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"test-1","use":"sig","alg":"EdDSA","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}]}"#;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminResponse {
    pub(crate) status: u16,
    /// `null` when there is none.
    pub(crate) body: Value,
}

impl AdminResponse {
    /// The reason of an error.
    pub(crate) fn reason(&self) -> &str {
        self.body["error"]["details"][0]["reason"].as_str().unwrap_or_default()
    }

    /// What an error says.
    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    /// A text in the body, by its JSON pointer.
    #[track_caller]
    pub(crate) fn text(&self, pointer: &str) -> String {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}: {self:?}")).to_owned()
    }
}

impl Keygate {
    /// `keygate serve` for tests of the admin API: with signing keys and public keys, and whatever else is asked for.
    pub(crate) fn serve_admin(more: &Value) -> Self {
        use base64::Engine;
        let keys = base64::engine::general_purpose::STANDARD.encode(SIGNING_KEYS);
        let mut config = json!({
            "credentials": {
                "api_keys": {"prefix": {"public_current": "pub"}},
                "derived_tokens": {"jwt": {"signing_keys": {"urls": [format!("base64://{keys}")]}}}
            }
        });
        merge(&mut config, more);
        let gateway = json!({
            "routes": [{"name": "all", "path_prefix": "/", "upstream": "none"}],
            "upstreams": {"none": {"endpoints": ["http://127.0.0.1:9"]}}
        });
        Self::serve(&gateway, &config)
    }

    /// A call of the API: a method and a path such as `POST /v2alpha1/admin/issuedApiKeys`.
    pub(crate) async fn send(&self, operation: &str, body: impl Into<Body>) -> AdminResponse {
        let (method, path) = operation.split_once(' ').unwrap();
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.admin)).body(body);
        let answer = request.send().await.unwrap_or_else(|error| panic!("{operation}: {error:?}"));
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{operation}: {status}, {error}: {body:?}"))
        };
        AdminResponse { status, body }
    }

    /// A call with JSON.
    pub(crate) async fn send_json(&self, operation: &str, body: &Value) -> AdminResponse {
        self.send(operation, body.to_string()).await
    }

    /// Imports a key: its id.
    pub(crate) async fn import(&self, wanted: Value) -> String {
        let mut body = json!({"name": "test", "actor_id": "tester"});
        merge(&mut body, &wanted);
        let answer = self.send_json("POST /v2alpha1/admin/importedApiKeys", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("/key_id")
    }

    /// Waits until an issued key has expired.
    pub(crate) async fn wait_until_expired(&self, id: &str) {
        let operation = format!("GET /v2alpha1/admin/issuedApiKeys/{id}");
        wait_for(async || match self.send(&operation, "").await.text("/status") {
            status if status == "KEY_STATUS_EXPIRED" => Ok(()),
            status => Err(format!("the key is {status}")),
        })
        .await;
    }

    /// All keys of a kind, `issued` or `imported`, under a query such as `filter=…`, page by page.
    pub(crate) async fn list(&self, kind: &str, query: &str) -> Vec<Value> {
        let mut keys = Vec::new();
        let mut token = String::new();
        loop {
            let page = self.page(kind, query, &token).await;
            keys.extend(page.body[format!("{kind}_api_keys")].as_array().unwrap().iter().cloned());
            token = page.text("/next_page_token");
            if token.is_empty() {
                return keys;
            }
        }
    }

    /// One page of keys.
    pub(crate) async fn page(&self, kind: &str, query: &str, token: &str) -> AdminResponse {
        let page = self.send(&format!("GET /v2alpha1/admin/{kind}ApiKeys?{query}&page_token={token}"), "").await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        page
    }
}
