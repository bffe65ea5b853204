//! The SDK with one function per operation. Its failure texts contain no credentials.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ory_client::apis::configuration::Configuration;
use ory_client::apis::{Error, api_keys_api as api};
use ory_client::models::{
    AdminRevokeApiKeyBody, AdminRotateIssuedApiKeyBody, AdminUpdateImportedApiKeyRequest,
    AdminUpdateIssuedApiKeyRequest, BatchImportApiKeysRequest, BatchImportApiKeysResponse, BatchVerifyApiKeysRequest,
    BatchVerifyApiKeysResponse, DeriveTokenRequest, DeriveTokenResponse, GetJwksResponse, ImportApiKeyRequest,
    ImportedApiKey, IssueApiKeyRequest, IssueApiKeyResponse, IssuedApiKey, ListImportedApiKeysResponse,
    ListIssuedApiKeysResponse, RotateIssuedApiKeyResponse, SelfRevokeApiKeyRequest, VerifyApiKeyRequest,
    VerifyApiKeyResponse,
};
use serde_json::Value;

/// The error is a text that begins with the operation.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Fails with `what` if the condition is false.
pub(crate) fn hold(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("does not hold: {what}")) }
}

/// The value of a required member; fails if it is missing.
pub(crate) fn member<T>(value: Option<T>, what: &str) -> Outcome<T> {
    value.ok_or_else(|| format!("is missing: {what}"))
}

/// The result of an operation.
pub(crate) struct Response<T> {
    operation: &'static str,
    result: Result<T, Failure>,
}

enum Failure {
    Refused {
        status: u16,
        reason: String,
    },
    /// A success with a body that the SDK cannot parse.
    Unreadable,
    Unreachable(String),
}

impl<E> From<Error<E>> for Failure {
    fn from(error: Error<E>) -> Self {
        match error {
            Error::ResponseError(response) => {
                let body: Value = serde_json::from_str(&response.content).unwrap_or_default();
                let reason = body["error"]["details"][0]["reason"].as_str().unwrap_or("no reason");
                Self::Refused { status: response.status.as_u16(), reason: reason.to_owned() }
            }
            // The error text may contain the body, and so a secret.
            Error::Serde(_) => Self::Unreadable,
            Error::Reqwest(error) => Self::Unreachable(error.to_string()),
            Error::Io(error) => Self::Unreachable(error.to_string()),
        }
    }
}

impl Failure {
    fn describe(&self) -> String {
        match self {
            Self::Refused { status, reason } => format!("{status} {reason}"),
            Self::Unreadable => "a body that the SDK cannot read".into(),
            Self::Unreachable(cause) => cause.clone(),
        }
    }
}

impl<T> Response<T> {
    /// Fails unless it is a success.
    pub(crate) fn ok(self) -> Outcome<T> {
        self.result.map_err(|failure| format!("{}: {}", self.operation, failure.describe()))
    }

    /// Fails unless it is an error with this status and reason.
    pub(crate) fn fails_with(self, status: u16, reason: &str) -> Outcome {
        let actual = match self.result {
            Ok(_) => "a success".into(),
            Err(failure) => failure.describe(),
        };
        let expected = format!("{status} {reason}");
        if actual == expected { Ok(()) } else { Err(format!("{}: {actual} instead of {expected}", self.operation)) }
    }
}

impl Response<Value> {
    /// Fails unless it is a success without a body. This SDK expects a body and reports a 204 as unreadable.
    pub(crate) fn done(self) -> Outcome {
        match self.result {
            Ok(_) | Err(Failure::Unreadable) => Ok(()),
            Err(failure) => Err(format!("{}: {}", self.operation, failure.describe())),
        }
    }
}

/// The SDK connected to one server.
pub(crate) struct Client {
    sdk: Configuration,
    called: RefCell<BTreeSet<&'static str>>,
}

impl Client {
    pub(crate) fn new(admin: String, admin_key: String) -> Self {
        let sdk = Configuration { base_path: admin, bearer_access_token: Some(admin_key), ..Configuration::default() };
        Self { sdk, called: RefCell::default() }
    }

    /// The number of different operations called so far.
    pub(crate) fn called(&self) -> usize {
        self.called.borrow().len()
    }

    fn response<T, E>(&self, operation: &'static str, result: Result<T, Error<E>>) -> Response<T> {
        self.called.borrow_mut().insert(operation);
        Response { operation, result: result.map_err(Failure::from) }
    }

    pub(crate) async fn issue(&self, request: IssueApiKeyRequest) -> Response<IssueApiKeyResponse> {
        self.response("adminIssueApiKey", api::admin_issue_api_key(&self.sdk, request).await)
    }

    pub(crate) async fn list_issued(
        &self,
        size: i32,
        token: Option<&str>,
        filter: &str,
    ) -> Response<ListIssuedApiKeysResponse> {
        let response = api::admin_list_issued_api_keys(&self.sdk, Some(size), token, Some(filter)).await;
        self.response("adminListIssuedApiKeys", response)
    }

    pub(crate) async fn get_issued(&self, id: &str) -> Response<IssuedApiKey> {
        self.response("adminGetIssuedApiKey", api::admin_get_issued_api_key(&self.sdk, id).await)
    }

    pub(crate) async fn update_issued(
        &self,
        id: &str,
        request: AdminUpdateIssuedApiKeyRequest,
        mask: Option<&str>,
    ) -> Response<IssuedApiKey> {
        let response = api::admin_update_issued_api_key(&self.sdk, id, request, mask).await;
        self.response("adminUpdateIssuedApiKey", response)
    }

    pub(crate) async fn rotate(
        &self,
        id: &str,
        request: AdminRotateIssuedApiKeyBody,
    ) -> Response<RotateIssuedApiKeyResponse> {
        self.response("adminRotateIssuedApiKey", api::admin_rotate_issued_api_key(&self.sdk, id, request).await)
    }

    pub(crate) async fn revoke(&self, id: &str, request: AdminRevokeApiKeyBody) -> Response<Value> {
        self.response("adminRevokeApiKey", api::admin_revoke_api_key(&self.sdk, id, request).await)
    }

    pub(crate) async fn import(&self, request: ImportApiKeyRequest) -> Response<ImportedApiKey> {
        self.response("adminImportApiKey", api::admin_import_api_key(&self.sdk, request).await)
    }

    pub(crate) async fn batch_import(
        &self,
        requests: Vec<ImportApiKeyRequest>,
    ) -> Response<BatchImportApiKeysResponse> {
        let request = BatchImportApiKeysRequest { requests: Some(requests) };
        self.response("adminBatchImportApiKeys", api::admin_batch_import_api_keys(&self.sdk, request).await)
    }

    pub(crate) async fn list_imported(
        &self,
        size: i32,
        token: Option<&str>,
        filter: &str,
    ) -> Response<ListImportedApiKeysResponse> {
        let response = api::admin_list_imported_api_keys(&self.sdk, Some(size), token, Some(filter)).await;
        self.response("adminListImportedApiKeys", response)
    }

    pub(crate) async fn get_imported(&self, id: &str) -> Response<ImportedApiKey> {
        self.response("adminGetImportedApiKey", api::admin_get_imported_api_key(&self.sdk, id).await)
    }

    pub(crate) async fn update_imported(
        &self,
        id: &str,
        request: AdminUpdateImportedApiKeyRequest,
        mask: Option<&str>,
    ) -> Response<ImportedApiKey> {
        let response = api::admin_update_imported_api_key(&self.sdk, id, request, mask).await;
        self.response("adminUpdateImportedApiKey", response)
    }

    pub(crate) async fn delete_imported(&self, id: &str) -> Response<Value> {
        self.response("adminDeleteImportedApiKey", api::admin_delete_imported_api_key(&self.sdk, id).await)
    }

    /// Bypasses the caches, like callers that must see every revocation.
    pub(crate) async fn verify(&self, credential: &str) -> Response<VerifyApiKeyResponse> {
        let response = api::admin_verify_api_key(&self.sdk, verify_request(credential), Some("no-cache"), None).await;
        self.response("adminVerifyApiKey", response)
    }

    pub(crate) async fn batch_verify(&self, credentials: &[&str]) -> Response<BatchVerifyApiKeysResponse> {
        let requests = credentials.iter().map(|credential| verify_request(credential)).collect();
        let request = BatchVerifyApiKeysRequest { requests: Some(requests) };
        self.response("adminBatchVerifyApiKeys", api::admin_batch_verify_api_keys(&self.sdk, request, None, None).await)
    }

    pub(crate) async fn derive(&self, request: DeriveTokenRequest) -> Response<DeriveTokenResponse> {
        self.response("adminDeriveToken", api::admin_derive_token(&self.sdk, request).await)
    }

    pub(crate) async fn jwks(&self) -> Response<GetJwksResponse> {
        self.response("getJwks", api::get_jwks(&self.sdk).await)
    }

    pub(crate) async fn self_revoke(&self, request: SelfRevokeApiKeyRequest) -> Response<Value> {
        self.response("revokeApiKey", api::revoke_api_key(&self.sdk, request).await)
    }
}

fn verify_request(credential: &str) -> VerifyApiKeyRequest {
    VerifyApiKeyRequest { credential: Some(credential.to_owned()) }
}
