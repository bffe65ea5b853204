//! `adminUpdateIssuedApiKey` and `adminUpdateImportedApiKey` (contract, admin API section 5.3): field masks as in
//! AIP-134.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::get::key_id;
use super::key::{ImportedApiKey, IpRestriction, IssuedApiKey, RateLimitPolicy};
use crate::admin::auth::op;
use crate::admin::body::RawBody;
use crate::admin::context::Context;
use crate::admin::custom_verb::LastSegment;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::json::{parse_object, read};
use crate::admin::query::Query;
use crate::admin::state::AdminState;
use crate::cidr::CidrSet;
use crate::id::{KeyId, KeyKind};
use crate::key::{KeyChange, Metadata};
use crate::request_context::RequestContext;

/// The members of a key, in both spellings. A body with one of them is the key itself, not a wrapped key.
const KEY_MEMBERS: [&str; 25] = [
    "key_id",
    "keyId",
    "name",
    "actor_id",
    "actorId",
    "scopes",
    "metadata",
    "status",
    "create_time",
    "createTime",
    "update_time",
    "updateTime",
    "expire_time",
    "expireTime",
    "last_used_time",
    "lastUsedTime",
    "rate_limit_policy",
    "rateLimitPolicy",
    "revocation_reason",
    "revocationReason",
    "revocation_description",
    "revocationDescription",
    "ip_restriction",
    "ipRestriction",
    "visibility",
];

/// New values of a key's members. Members that the server manages are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::admin) struct AdminUpdateIssuedApiKeyRequest {
    /// The display name, 0 to 255 characters.
    #[schema(nullable = false)]
    name: Option<String>,
    /// The scopes, at most 100 of 1 to 100 characters each.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// Custom data, replaced as a whole; at most 65536 bytes as JSON.
    #[schema(value_type = Object, required = false)]
    metadata: Option<Metadata>,
    #[serde(alias = "rateLimitPolicy")]
    #[schema(nullable = false)]
    rate_limit_policy: Option<RateLimitPolicy>,
    #[serde(alias = "ipRestriction")]
    #[schema(nullable = false)]
    ip_restriction: Option<IpRestriction>,
}

/// New values of an imported key's members, with the members for an issued key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
pub(in crate::admin) struct AdminUpdateImportedApiKeyRequest(AdminUpdateIssuedApiKeyRequest);

/// A member that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Scopes,
    Metadata,
    RateLimitPolicy,
    IpRestriction,
}

/// Updates an issued key.
#[utoipa::path(patch, path = "/v2alpha1/admin/issuedApiKeys/{key_id}", operation_id = "adminUpdateIssuedApiKey",
    tag = "issued keys", params(("key_id" = String, Path, description = "The key"),
        ("update_mask" = Option<String>, Query, description = "The members to set, separated by commas. Those that the body does not contain are cleared")),
    request_body = AdminUpdateIssuedApiKeyRequest,
    responses((status = 200, description = "The updated key", body = IssuedApiKey),
        (status = 400, description = "A field or the mask is invalid", body = ErrorResponse),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn issued(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::UpdateIssuedKey>,
    LastSegment(id): LastSegment,
    query: Query,
    body: RawBody,
) -> Result<Json<IssuedApiKey>, ApiError> {
    let request: AdminUpdateIssuedApiKeyRequest = read_key(&body)?;
    let change = request.read(&query)?;
    update(&state, &context, key_id(KeyKind::Issued, &id)?, change).await.map(Json)
}

/// Updates an imported key.
#[utoipa::path(patch, path = "/v2alpha1/admin/importedApiKeys/{key_id}", operation_id = "adminUpdateImportedApiKey",
    tag = "imported keys", params(("key_id" = String, Path, description = "The key"),
        ("update_mask" = Option<String>, Query, description = "The members to set, separated by commas. Those that the body does not contain are cleared")),
    request_body = AdminUpdateImportedApiKeyRequest,
    responses((status = 200, description = "The updated key", body = ImportedApiKey),
        (status = 400, description = "A field or the mask is invalid", body = ErrorResponse),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn imported(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::UpdateImportedKey>,
    LastSegment(id): LastSegment,
    query: Query,
    body: RawBody,
) -> Result<Json<ImportedApiKey>, ApiError> {
    let AdminUpdateImportedApiKeyRequest(request) = read_key(&body)?;
    let change = request.read(&query)?;
    update(&state, &context, key_id(KeyKind::Imported, &id)?, change).await.map(|key| Json(ImportedApiKey(key)))
}

async fn update(
    state: &AdminState,
    context: &RequestContext,
    id: KeyId,
    change: KeyChange,
) -> Result<IssuedApiKey, ApiError> {
    let key = state.lifecycle.update(context, id, change).await?;
    Ok(IssuedApiKey::new(&key, state.lifecycle.now()))
}

/// Parses the key in a body, wrapped or not.
fn read_key<T: DeserializeOwned>(body: &RawBody) -> Result<T, ApiError> {
    read(unwrap_key(parse_object(&body.0)?))
}

/// The key inside `issued_api_key` or `imported_api_key`, unless the body itself has members of a key.
fn unwrap_key(mut members: Map<String, Value>) -> Map<String, Value> {
    if members.keys().any(|name| KEY_MEMBERS.contains(&name.as_str())) {
        return members;
    }
    for wrapper in ["issued_api_key", "issuedApiKey", "imported_api_key", "importedApiKey"] {
        if let Some(Value::Object(_)) = members.get(wrapper)
            && let Some(Value::Object(inner)) = members.remove(wrapper)
        {
            return inner;
        }
    }
    members
}

/// Parses an update mask; `None` for an empty one.
fn read_mask(mask: &str) -> Result<Option<Vec<Field>>, ApiError> {
    if mask.is_empty() {
        return Ok(None);
    }
    let field = |path: &str| match path {
        "name" => Ok(Field::Name),
        "scopes" => Ok(Field::Scopes),
        "metadata" => Ok(Field::Metadata),
        "rate_limit_policy" | "rateLimitPolicy" => Ok(Field::RateLimitPolicy),
        "ip_restriction" | "ipRestriction" => Ok(Field::IpRestriction),
        _ => Err(ApiError::invalid(format!(
            "unknown update_mask path: \"{path}\" (allowed: name, scopes, metadata, rate_limit_policy, ip_restriction)"
        ))),
    };
    mask.split(',').map(|path| field(path.trim_ascii())).collect::<Result<_, _>>().map(Some)
}

impl AdminUpdateIssuedApiKeyRequest {
    fn read(self, query: &Query) -> Result<KeyChange, ApiError> {
        match read_mask(&query.text(["update_mask", "updateMask"])?)? {
            Some(mask) => self.masked(&mask),
            None => self.unmasked(),
        }
    }

    /// Sets the members in the mask. Those that the body does not contain are cleared.
    fn masked(self, mask: &[Field]) -> Result<KeyChange, ApiError> {
        let listed = |field| mask.contains(&field);
        let mut change = KeyChange::default();
        if listed(Field::Name) {
            change.name = Some(self.name.unwrap_or_default());
        }
        if listed(Field::Scopes) {
            change.scopes = Some(self.scopes.unwrap_or_default());
        }
        if listed(Field::Metadata) {
            change.metadata = Some(self.metadata.unwrap_or_default());
        }
        if listed(Field::RateLimitPolicy) {
            change.rate_limit = Some(self.rate_limit_policy.map(|policy| policy.read()).transpose()?);
        }
        if listed(Field::IpRestriction) {
            change.networks =
                Some(self.ip_restriction.map_or(Ok(CidrSet::default()), |restriction| restriction.read())?);
        }
        Ok(change)
    }

    /// Sets the members in the body. An empty name or list is ignored.
    fn unmasked(self) -> Result<KeyChange, ApiError> {
        Ok(KeyChange {
            name: self.name.filter(|name| !name.is_empty()),
            scopes: self.scopes.filter(|scopes| !scopes.is_empty()),
            metadata: self.metadata,
            rate_limit: self.rate_limit_policy.map(|policy| policy.read().map(Some)).transpose()?,
            networks: self.ip_restriction.map(|restriction| restriction.read()).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(mask: &str, body: &Value) -> KeyChange {
        let body = RawBody(body.to_string().into_bytes().into());
        let request: AdminUpdateIssuedApiKeyRequest = read_key(&body).unwrap();
        request.read(&Query::of("update_mask", mask)).unwrap()
    }

    fn full() -> Value {
        json!({
            "name": "n", "scopes": ["s"], "metadata": {"k": 1},
            "rate_limit_policy": {"quota": "1", "window": "1s"}, "ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}
        })
    }

    #[test]
    fn masked_members_are_set_or_cleared() {
        let all = "name,scopes,metadata,rateLimitPolicy,ip_restriction";
        let cleared = KeyChange {
            name: Some(String::new()),
            scopes: Some(Vec::new()),
            metadata: Some(Metadata::new()),
            rate_limit: Some(None),
            networks: Some(CidrSet::default()),
        };
        assert_eq!(change(all, &json!({})), cleared);
        assert_eq!(change("name", &full()), KeyChange { name: Some("n".into()), ..KeyChange::default() });
        let set = change(all, &full());
        assert!(set.rate_limit.flatten().is_some() && !set.networks.unwrap().is_empty());
    }

    #[test]
    fn empty_names_and_lists_are_ignored_without_a_mask() {
        assert_eq!(change("", &json!({"name": "", "scopes": []})), KeyChange::default());
        let objects = change("", &json!({"metadata": {}, "ip_restriction": {"allowed_cidrs": []}}));
        let cleared =
            KeyChange { metadata: Some(Metadata::new()), networks: Some(CidrSet::default()), ..KeyChange::default() };
        assert_eq!(objects, cleared);
        assert_eq!(change("", &json!({"metadata": null, "rate_limit_policy": null})), KeyChange::default());
    }

    #[test]
    fn wrapped_key_is_unwrapped_unless_the_body_has_key_members() {
        let wrapped = KeyChange { name: Some("n".into()), ..KeyChange::default() };
        assert_eq!(change("", &json!({"issued_api_key": {"name": "n"}})), wrapped);
        assert_eq!(change("name", &json!({"importedApiKey": {"name": "n"}, "other": 1})), wrapped);
        assert_eq!(change("", &json!({"issued_api_key": {"name": "n"}, "key_id": "x"})), KeyChange::default());
    }

    #[test]
    fn unknown_mask_paths_are_rejected() {
        for mask in ["actor_id", "rate_limit_policy.quota", "*", "name,", ","] {
            assert!(read_mask(mask).is_err(), "{mask}");
        }
        assert_eq!(read_mask("name").unwrap(), Some(vec![Field::Name]));
    }
}
