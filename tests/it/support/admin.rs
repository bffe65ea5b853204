//! Calls of the admin API with any method, path and body, also invalid ones.

use reqwest::Body;
use serde_json::{Value, json};

use super::keygate::{Keygate, merge};
use super::wait::wait_for;

/// A JWK set with a private Ed25519 key, whose seed is the bytes 0 to 31.
pub(crate) const SIGNING_KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"test-1","use":"sig","alg":"EdDSA","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}]}"#;

/// A response of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminResponse {
    pub(crate) status: u16,
    /// The JSON body; `null` if it is empty.
    pub(crate) body: Value,
}

impl AdminResponse {
    /// The reason of an error.
    pub(crate) fn reason(&self) -> &str {
        self.body["error"]["details"][0]["reason"].as_str().unwrap_or_default()
    }

    /// The message of an error.
    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    /// The string in the body at a JSON pointer.
    #[track_caller]
    pub(crate) fn text(&self, pointer: &str) -> String {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}: {self:?}")).to_owned()
    }
}

impl Keygate {
    /// Starts `keygate serve` with signing keys, public keys and more settings.
    pub(crate) fn serve_admin(settings: &Value) -> Self {
        use base64::Engine;
        let keys = base64::engine::general_purpose::STANDARD.encode(SIGNING_KEYS);
        let mut config = json!({
            "credentials": {
                "api_keys": {"prefix": {"public_current": "pub"}},
                "derived_tokens": {"jwt": {"signing_keys": {"urls": [format!("base64://{keys}")]}}}
            }
        });
        merge(&mut config, settings);
        let gateway = json!({
            "routes": [{"name": "all", "path_prefix": "/", "upstream": "none"}],
            "upstreams": {"none": {"endpoints": ["http://127.0.0.1:9"]}}
        });
        Self::serve(&gateway, &config)
    }

    /// Makes a call with the admin key of the server; `operation` is a method and a path such as `POST /v2alpha1/admin/issuedApiKeys`.
    pub(crate) async fn send(&self, operation: &str, body: impl Into<Body>) -> AdminResponse {
        self.send_as(&self.admin_key, operation, body).await
    }

    /// Makes a call with an admin key, or without one if it is empty.
    pub(crate) async fn send_as(&self, key: &str, operation: &str, body: impl Into<Body>) -> AdminResponse {
        let (method, path) = operation.split_once(' ').unwrap();
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.admin)).body(body);
        let request = if key.is_empty() { request } else { request.bearer_auth(key) };
        let response = request.send().await.unwrap_or_else(|error| panic!("{operation}: {error:?}"));
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{operation}: {status}, {error}: {body:?}"))
        };
        AdminResponse { status, body }
    }

    /// Makes a call with a JSON body.
    pub(crate) async fn send_json(&self, operation: &str, body: &Value) -> AdminResponse {
        self.send(operation, body.to_string()).await
    }

    /// Imports a key with more fields; returns its id.
    pub(crate) async fn import(&self, fields: Value) -> String {
        let mut body = json!({"name": "test", "actor_id": "tester"});
        merge(&mut body, &fields);
        let response = self.send_json("POST /v2alpha1/admin/importedApiKeys", &body).await;
        assert_eq!(response.status, 201, "{response:?}");
        response.text("/key_id")
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

    /// Lists all pages of keys of a type, `issued` or `imported`, with a query such as `filter=…`.
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

    /// Lists one page of keys.
    pub(crate) async fn page(&self, kind: &str, query: &str, token: &str) -> AdminResponse {
        let page = self.send(&format!("GET /v2alpha1/admin/{kind}ApiKeys?{query}&page_token={token}"), "").await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        page
    }
}
