//! The SDK, an operation a function, with answers that can be told without the credentials in them.

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

/// What was wrong, beginning with the operation.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Fails with `what` unless it holds.
pub(crate) fn hold(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("does not hold: {what}")) }
}

/// A member that must be there.
pub(crate) fn member<T>(value: Option<T>, what: &str) -> Outcome<T> {
    value.ok_or_else(|| format!("is missing: {what}"))
}

/// How an operation ended.
pub(crate) struct Answer<T> {
    operation: &'static str,
    result: Result<T, Failure>,
}

enum Failure {
    Refused {
        status: u16,
        reason: String,
    },
    /// A success with a body that is not what the SDK expects.
    Unreadable,
    Unreachable(String),
}

impl<E> From<Error<E>> for Failure {
    fn from(error: Error<E>) -> Self {
        match error {
            Error::ResponseError(answer) => {
                let body: Value = serde_json::from_str(&answer.content).unwrap_or_default();
                let reason = body["error"]["details"][0]["reason"].as_str().unwrap_or("no reason");
                Self::Refused { status: answer.status.as_u16(), reason: reason.to_owned() }
            }
            // Its text may quote the body, and with it a secret.
            Error::Serde(_) => Self::Unreadable,
            Error::Reqwest(error) => Self::Unreachable(error.to_string()),
            Error::Io(error) => Self::Unreachable(error.to_string()),
        }
    }
}

impl Failure {
    fn tell(&self) -> String {
        match self {
            Self::Refused { status, reason } => format!("{status} {reason}"),
            Self::Unreadable => "a body that the SDK cannot read".into(),
            Self::Unreachable(cause) => cause.clone(),
        }
    }
}

impl<T> Answer<T> {
    /// It must be a success.
    pub(crate) fn ok(self) -> Outcome<T> {
        self.result.map_err(|failure| format!("{}: {}", self.operation, failure.tell()))
    }

    /// It must be an error of this status and reason.
    pub(crate) fn refused(self, status: u16, reason: &str) -> Outcome {
        let told = match self.result {
            Ok(_) => "a success".into(),
            Err(failure) => failure.tell(),
        };
        let expected = format!("{status} {reason}");
        if told == expected { Ok(()) } else { Err(format!("{}: {told} instead of {expected}", self.operation)) }
    }
}

impl Answer<Value> {
    /// It must be a success without content. This SDK expects a body also there, and reports a 204 as unreadable.
    pub(crate) fn done(self) -> Outcome {
        match self.result {
            Ok(_) | Err(Failure::Unreadable) => Ok(()),
            Err(failure) => Err(format!("{}: {}", self.operation, failure.tell())),
        }
    }
}

/// The SDK at one server.
pub(crate) struct Client {
    sdk: Configuration,
    called: RefCell<BTreeSet<&'static str>>,
}

impl Client {
    pub(crate) fn new(admin: String) -> Self {
        let sdk = Configuration {
            base_path: admin,
            // The SDK's users have one set; the server has no use for it.
            bearer_access_token: Some("ignored".into()),
            ..Configuration::default()
        };
        Self { sdk, called: RefCell::default() }
    }

    /// How many operations were called so far.
    pub(crate) fn called(&self) -> usize {
        self.called.borrow().len()
    }

    fn answer<T, E>(&self, operation: &'static str, result: Result<T, Error<E>>) -> Answer<T> {
        self.called.borrow_mut().insert(operation);
        Answer { operation, result: result.map_err(Failure::from) }
    }

    pub(crate) async fn issue(&self, request: IssueApiKeyRequest) -> Answer<IssueApiKeyResponse> {
        self.answer("adminIssueApiKey", api::admin_issue_api_key(&self.sdk, request).await)
    }

    pub(crate) async fn list_issued(
        &self,
        size: i32,
        token: Option<&str>,
        filter: &str,
    ) -> Answer<ListIssuedApiKeysResponse> {
        let answer = api::admin_list_issued_api_keys(&self.sdk, Some(size), token, Some(filter)).await;
        self.answer("adminListIssuedApiKeys", answer)
    }

    pub(crate) async fn get_issued(&self, id: &str) -> Answer<IssuedApiKey> {
        self.answer("adminGetIssuedApiKey", api::admin_get_issued_api_key(&self.sdk, id).await)
    }

    pub(crate) async fn update_issued(
        &self,
        id: &str,
        request: AdminUpdateIssuedApiKeyRequest,
        mask: Option<&str>,
    ) -> Answer<IssuedApiKey> {
        let answer = api::admin_update_issued_api_key(&self.sdk, id, request, mask).await;
        self.answer("adminUpdateIssuedApiKey", answer)
    }

    pub(crate) async fn rotate(
        &self,
        id: &str,
        request: AdminRotateIssuedApiKeyBody,
    ) -> Answer<RotateIssuedApiKeyResponse> {
        self.answer("adminRotateIssuedApiKey", api::admin_rotate_issued_api_key(&self.sdk, id, request).await)
    }

    pub(crate) async fn revoke(&self, id: &str, request: AdminRevokeApiKeyBody) -> Answer<Value> {
        self.answer("adminRevokeApiKey", api::admin_revoke_api_key(&self.sdk, id, request).await)
    }

    pub(crate) async fn import(&self, request: ImportApiKeyRequest) -> Answer<ImportedApiKey> {
        self.answer("adminImportApiKey", api::admin_import_api_key(&self.sdk, request).await)
    }

    pub(crate) async fn batch_import(&self, requests: Vec<ImportApiKeyRequest>) -> Answer<BatchImportApiKeysResponse> {
        let request = BatchImportApiKeysRequest { requests: Some(requests) };
        self.answer("adminBatchImportApiKeys", api::admin_batch_import_api_keys(&self.sdk, request).await)
    }

    pub(crate) async fn list_imported(
        &self,
        size: i32,
        token: Option<&str>,
        filter: &str,
    ) -> Answer<ListImportedApiKeysResponse> {
        let answer = api::admin_list_imported_api_keys(&self.sdk, Some(size), token, Some(filter)).await;
        self.answer("adminListImportedApiKeys", answer)
    }

    pub(crate) async fn get_imported(&self, id: &str) -> Answer<ImportedApiKey> {
        self.answer("adminGetImportedApiKey", api::admin_get_imported_api_key(&self.sdk, id).await)
    }

    pub(crate) async fn update_imported(
        &self,
        id: &str,
        request: AdminUpdateImportedApiKeyRequest,
        mask: Option<&str>,
    ) -> Answer<ImportedApiKey> {
        let answer = api::admin_update_imported_api_key(&self.sdk, id, request, mask).await;
        self.answer("adminUpdateImportedApiKey", answer)
    }

    pub(crate) async fn delete_imported(&self, id: &str) -> Answer<Value> {
        self.answer("adminDeleteImportedApiKey", api::admin_delete_imported_api_key(&self.sdk, id).await)
    }

    /// Past any cache, as callers ask for that must not miss a revocation.
    pub(crate) async fn verify(&self, credential: &str) -> Answer<VerifyApiKeyResponse> {
        let answer = api::admin_verify_api_key(&self.sdk, presenting(credential), Some("no-cache"), None).await;
        self.answer("adminVerifyApiKey", answer)
    }

    pub(crate) async fn batch_verify(&self, credentials: &[&str]) -> Answer<BatchVerifyApiKeysResponse> {
        let requests = credentials.iter().map(|credential| presenting(credential)).collect();
        let request = BatchVerifyApiKeysRequest { requests: Some(requests) };
        self.answer("adminBatchVerifyApiKeys", api::admin_batch_verify_api_keys(&self.sdk, request, None, None).await)
    }

    pub(crate) async fn derive(&self, request: DeriveTokenRequest) -> Answer<DeriveTokenResponse> {
        self.answer("adminDeriveToken", api::admin_derive_token(&self.sdk, request).await)
    }

    pub(crate) async fn jwks(&self) -> Answer<GetJwksResponse> {
        self.answer("getJwks", api::get_jwks(&self.sdk).await)
    }

    pub(crate) async fn self_revoke(&self, request: SelfRevokeApiKeyRequest) -> Answer<Value> {
        self.answer("revokeApiKey", api::revoke_api_key(&self.sdk, request).await)
    }
}

fn presenting(credential: &str) -> VerifyApiKeyRequest {
    VerifyApiKeyRequest { credential: Some(credential.to_owned()) }
}
