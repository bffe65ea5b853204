//! `adminBatchCreateImportedApiKeys` and its legacy name (contract, admin API sections 5.7 and 7).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::draft::ImportApiKeyRequest;
use super::enums::{BatchCreateImportedApiKeysErrorCode, BatchImportErrorCode};
use super::key::{ImportedApiKey, IssuedApiKey};
use crate::admin::auth::op;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::state::AdminState;
use crate::clock::Timestamp;
use crate::lifecycle::{BatchCode, BatchItem};
use crate::request_context::RequestContext;

/// Keys to import.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct BatchCreateImportedApiKeysRequest {
    /// 1 to 1000 keys, each validated separately. `request_id` has no effect.
    #[schema(value_type = Vec<ImportApiKeyRequest>, required, min_items = 1, max_items = 1000)]
    requests: Option<Vec<Option<ImportApiKeyRequest>>>,
}

/// Declares the response of a batch import, with the error codes of one generation of clients.
macro_rules! batch_response {
    ($(#[$response_meta:meta])* $response:ident, $(#[$result_meta:meta])* $result:ident, $code:ty) => {
        $(#[$response_meta])*
        #[derive(Serialize, ToSchema)]
        pub(in crate::admin) struct $response {
            /// In the order of the requests.
            results: Vec<$result>,
            success_count: i32,
            failure_count: i32,
        }

        $(#[$result_meta])*
        #[derive(Serialize, ToSchema)]
        pub(in crate::admin) struct $result {
            /// The index in the request, from 0.
            index: i32,
            /// The key; `null` if it was rejected.
            imported_api_key: Option<ImportedApiKey>,
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schema(nullable = false)]
            error_code: Option<$code>,
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schema(nullable = false)]
            error_message: Option<String>,
        }

        impl From<Batch> for $response {
            fn from(batch: Batch) -> Self {
                let failed = batch.items.iter().filter(|item| item.is_err()).count();
                let success_count = int32(batch.items.len() - failed);
                let result = |(index, item): (usize, BatchItem)| {
                    let (imported_api_key, error) = match item {
                        Ok(key) => (Some(ImportedApiKey(IssuedApiKey::new(&key, batch.now))), None),
                        Err(error) => (None, Some(error)),
                    };
                    $result {
                        index: int32(index),
                        imported_api_key,
                        error_code: error.as_ref().map(|error| error.code.into()),
                        error_message: error.map(|error| error.message),
                    }
                };
                let results = batch.items.into_iter().enumerate().map(result).collect();
                Self { results, success_count, failure_count: int32(failed) }
            }
        }
    };
}

batch_response! {
    /// The results of a batch import.
    BatchCreateImportedApiKeysResponse,
    /// The result for one key.
    BatchCreateImportedApiKeysResult,
    BatchCreateImportedApiKeysErrorCode
}

batch_response! {
    /// The results of a batch import, for older clients.
    BatchImportApiKeysResponse,
    /// The result for one key, for older clients.
    BatchImportResult,
    BatchImportErrorCode
}

/// The items of a batch of which at least one was imported.
struct Batch {
    items: Vec<BatchItem>,
    /// When they were imported.
    now: Timestamp,
}

/// Imports up to 1000 keys.
#[utoipa::path(post, path = "/v2alpha1/admin/importedApiKeys:batchCreate",
    operation_id = "adminBatchCreateImportedApiKeys", tag = "imported keys",
    request_body = BatchCreateImportedApiKeysRequest,
    responses((status = 200, description = "At least one key is imported", body = BatchCreateImportedApiKeysResponse),
        (status = 400, description = "The batch is invalid, or all its keys are", body = ErrorResponse),
        (status = 402, description = "The key quota is reached", body = ErrorResponse),
        (status = 409, description = "All keys exist already, or have the format of another kind", body = ErrorResponse),
        (status = 500, description = "No key is imported", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn batch_create(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::BatchImportKeys>,
    Body(request): Body<BatchCreateImportedApiKeysRequest>,
) -> Result<Json<BatchCreateImportedApiKeysResponse>, ApiError> {
    Ok(Json(create(&state, &context, request).await?.into()))
}

/// Imports up to 1000 keys, with the error codes of older clients.
#[utoipa::path(post, path = "/v2alpha1/admin/importedApiKeys:batchImport",
    operation_id = "legacyAdminBatchImportApiKeys", tag = "older clients",
    request_body = BatchCreateImportedApiKeysRequest,
    responses((status = 200, description = "At least one key is imported", body = BatchImportApiKeysResponse),
        (status = 400, description = "The batch is invalid, or all its keys are", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn batch_import(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::BatchImportKeysLegacy>,
    Body(request): Body<BatchCreateImportedApiKeysRequest>,
) -> Result<Json<BatchImportApiKeysResponse>, ApiError> {
    Ok(Json(create(&state, &context, request).await?.into()))
}

async fn create(
    state: &AdminState,
    context: &RequestContext,
    request: BatchCreateImportedApiKeysRequest,
) -> Result<Batch, ApiError> {
    let item = |item: Option<ImportApiKeyRequest>| match item {
        Some(item) => item.read().map_err(|error| error.message().to_owned()),
        None => Err("the item is null".to_owned()),
    };
    let items = request.requests.unwrap_or_default().into_iter().map(item).collect();
    let items = state.lifecycle.import_batch(context, items).await?;
    if items.iter().all(Result::is_err) {
        return Err(all_failed(&items));
    }
    Ok(Batch { items, now: state.lifecycle.now() })
}

fn int32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The error of a batch without an imported key: that of the most frequent code, in a tie of the first in the order of
/// [`BatchCode::ALL`].
fn all_failed(items: &[BatchItem]) -> ApiError {
    let count =
        |code: BatchCode| items.iter().filter(|item| item.as_ref().is_err_and(|error| error.code == code)).count();
    let mut dominant = BatchCode::Internal;
    for code in BatchCode::ALL {
        if count(code) > count(dominant) {
            dominant = code;
        }
    }
    let (reason, message) = match dominant {
        BatchCode::Internal => (Reason::InternalServerError, "all keys in batch import failed"),
        BatchCode::AlreadyExists => (Reason::ApiKeyExists, "all keys in batch already exist"),
        BatchCode::InvalidArgument => (Reason::BadRequest, "all keys in batch failed validation"),
        BatchCode::FailedPrecondition => (Reason::FailedPrecondition, "all keys in batch failed precondition checks"),
        BatchCode::ResourceExhausted => (Reason::ApiKeyQuotaExceeded, "all keys in batch exceeded the tenant quota"),
    };
    ApiError::new(reason, message)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::lifecycle::ItemError;
    use BatchCode::{AlreadyExists, FailedPrecondition, Internal, InvalidArgument, ResourceExhausted};

    #[test]
    fn failed_batch_has_the_error_of_its_most_frequent_code() {
        let message = |codes: &[BatchCode]| {
            let items: Vec<BatchItem> =
                codes.iter().map(|code| Err(ItemError { code: *code, message: String::new() })).collect();
            all_failed(&items).message().to_owned()
        };
        assert_eq!(message(&[ResourceExhausted, Internal]), "all keys in batch import failed");
        assert_eq!(message(&[InvalidArgument, AlreadyExists]), "all keys in batch already exist");
        assert_eq!(message(&[FailedPrecondition, InvalidArgument]), "all keys in batch failed validation");
        assert_eq!(message(&[ResourceExhausted, FailedPrecondition]), "all keys in batch failed precondition checks");
        let exhausted = [ResourceExhausted, ResourceExhausted, InvalidArgument];
        assert_eq!(message(&exhausted), "all keys in batch exceeded the tenant quota");
    }

    #[test]
    fn batch_with_internal_errors_is_500() {
        let items = [Err(ItemError { code: Internal, message: String::new() })];
        assert_eq!(all_failed(&items).into_response().status(), http::StatusCode::INTERNAL_SERVER_ERROR);
    }
}
