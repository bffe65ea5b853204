//! `adminUpdateIssuedApiKey` and `adminUpdateImportedApiKey` (contract, admin API section 5.3): field masks as in
//! AIP-134.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::get::key_id;
use super::key::{ImportedApiKey, IpRestriction, IssuedApiKey, RateLimitPolicy};
use super::schemas::ScopeText;
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

/// The members that hold a wrapped key.
const WRAPPERS: [&str; 4] = ["issued_api_key", "issuedApiKey", "imported_api_key", "importedApiKey"];

/// New values of a key's members. Members that the server manages are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::admin) struct AdminUpdateIssuedApiKeyRequest {
    /// The display name, 0 to 255 characters.
    #[schema(nullable = false, max_length = 255)]
    name: Option<String>,
    /// The scopes, at most 100 of 1 to 100 characters each.
    #[schema(value_type = Vec<ScopeText>, inline, max_items = 100, required = false)]
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
#[derive(ToSchema)]
#[serde(transparent)]
#[expect(dead_code, reason = "names the message in the OpenAPI description")]
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

/// The key in a body, and the objects beside it that could be meant to be the key.
struct KeyBody {
    members: Map<String, Value>,
    others: Vec<Map<String, Value>>,
}

/// Updates an issued key.
#[utoipa::path(patch, path = "/v2alpha1/admin/issuedApiKeys/{key_id}", operation_id = "adminUpdateIssuedApiKey",
    tag = "issued keys", params(("key_id" = String, Path, description = "The key", min_length = 1),
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
    let change = read_change(&body, &query)?;
    update(&state, &context, key_id(KeyKind::Issued, &id)?, change).await.map(Json)
}

/// Updates an imported key.
#[utoipa::path(patch, path = "/v2alpha1/admin/importedApiKeys/{key_id}", operation_id = "adminUpdateImportedApiKey",
    tag = "imported keys", params(("key_id" = String, Path, description = "The key", min_length = 1),
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
    let change = read_change(&body, &query)?;
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

/// Parses a change: the key in a body, wrapped or not, under the mask of the query.
fn read_change(body: &RawBody, query: &Query) -> Result<KeyChange, ApiError> {
    let mask = read_mask(&query.text(["update_mask", "updateMask"])?)?;
    let body = KeyBody::new(parse_object(&body.0)?);
    body.check(mask.as_deref().unwrap_or_default())?;
    let request: AdminUpdateIssuedApiKeyRequest = read(body.members)?;
    match mask {
        Some(mask) => request.masked(&mask),
        None => request.unmasked(),
    }
}

impl KeyBody {
    /// Finds the key: the body itself if it has a member that can be changed, else the first wrapped key, else the body. An id or another
    /// member that the server manages may stand beside a wrapped key.
    fn new(mut members: Map<String, Value>) -> Self {
        let is_key = Field::ALL.into_iter().any(|field| field.is_in(&members));
        let is_wrapped = |name: &&&str| !is_key && members.get(**name).is_some_and(Value::is_object);
        let wrapped = WRAPPERS.iter().find(is_wrapped).and_then(|name| members.remove(*name));
        let key = match wrapped {
            Some(Value::Object(key)) => Some(key),
            _ => None,
        };
        let is_member = |name: &str| Field::ALL.into_iter().any(|field| field.names().contains(&name));
        let others = members.iter().filter(|(name, _)| !is_member(name)).filter_map(|(_, value)| value.as_object());
        let others = others.cloned().collect();
        Self { members: key.unwrap_or(members), others }
    }

    /// Rejects a body without a member that the mask would clear, if an object beside the key has that member: clearing it is not what the
    /// caller meant.
    fn check(&self, mask: &[Field]) -> Result<(), ApiError> {
        let misplaced =
            |field: &&Field| !field.is_in(&self.members) && self.others.iter().any(|other| field.is_in(other));
        match mask.iter().find(misplaced) {
            Some(field) => Err(ApiError::invalid(format!(
                "update_mask has {0}, and the body has {0} only inside another object; send the members of the key at the top level",
                field.names()[0]
            ))),
            None => Ok(()),
        }
    }
}

impl Field {
    const ALL: [Self; 5] = [Self::Name, Self::Scopes, Self::Metadata, Self::RateLimitPolicy, Self::IpRestriction];

    /// The two spellings of the member.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Name => ["name"; 2],
            Self::Scopes => ["scopes"; 2],
            Self::Metadata => ["metadata"; 2],
            Self::RateLimitPolicy => ["rate_limit_policy", "rateLimitPolicy"],
            Self::IpRestriction => ["ip_restriction", "ipRestriction"],
        }
    }

    /// Whether an object has the member. `null` means absent.
    fn is_in(self, members: &Map<String, Value>) -> bool {
        self.names().iter().any(|name| members.get(*name).is_some_and(|value| !value.is_null()))
    }
}

/// Parses an update mask; `None` for an empty one.
fn read_mask(mask: &str) -> Result<Option<Vec<Field>>, ApiError> {
    if mask.is_empty() {
        return Ok(None);
    }
    let field = |path: &str| {
        Field::ALL.into_iter().find(|field| field.names().contains(&path)).ok_or_else(|| {
            ApiError::invalid(format!(
                "unknown update_mask path: \"{path}\" (allowed: name, scopes, metadata, rate_limit_policy, ip_restriction)"
            ))
        })
    };
    mask.split(',').map(|path| field(path.trim_ascii())).collect::<Result<_, _>>().map(Some)
}

impl AdminUpdateIssuedApiKeyRequest {
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

    fn try_change(mask: &str, body: &Value) -> Result<KeyChange, ApiError> {
        read_change(&RawBody(body.to_string().into_bytes().into()), &Query::of("update_mask", mask))
    }

    fn change(mask: &str, body: &Value) -> KeyChange {
        try_change(mask, body).unwrap()
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
    fn wrapped_key_is_unwrapped_unless_the_body_has_members_that_can_be_changed() {
        let wrapped = KeyChange { name: Some("n".into()), ..KeyChange::default() };
        for (mask, body) in [
            ("", json!({"issued_api_key": {"name": "n"}})),
            ("name", json!({"importedApiKey": {"name": "n"}, "other": 1})),
            ("", json!({"issued_api_key": {"name": "n"}, "key_id": "x"})),
            (
                "name",
                json!({"keyId": "x", "status": "KEY_STATUS_ACTIVE", "scopes": null, "issuedApiKey": {"name": "n"}}),
            ),
            ("name", json!({"name": "n", "issued_api_key": {"name": "other"}})),
            ("name", json!({"name": "n", "issued_api_key": {"scopes": ["s"]}})),
            ("name", json!({"issued_api_key": null, "imported_api_key": {"name": "n"}})),
        ] {
            assert_eq!(change(mask, &body), wrapped, "{body}");
        }
        let restriction =
            json!({"key_id": "x", "issued_api_key": {"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}}});
        assert!(!change("ip_restriction", &restriction).networks.unwrap().is_empty());
    }

    #[test]
    fn masked_member_that_only_another_object_has_is_not_cleared() {
        let restriction = json!({"allowed_cidrs": ["10.0.0.0/8"]});
        for body in [
            json!({"name": "n", "issued_api_key": {"ip_restriction": restriction}}),
            json!({"scopes": [], "importedApiKey": {"ipRestriction": restriction}}),
            json!({"issued_api_key": {"name": "n"}, "imported_api_key": {"ip_restriction": restriction}}),
            json!({"ip_restriction": null, "name": "n", "issued_api_key": {"ip_restriction": restriction}}),
            json!({"api_key": {"ip_restriction": restriction}}),
        ] {
            let error = try_change("name,ip_restriction", &body).unwrap_err();
            assert!(error.message().contains("update_mask has ip_restriction"), "{body}: {}", error.message());
            assert!(try_change("", &body).is_ok(), "nothing is cleared without a mask");
        }
        let metadata = json!({"metadata": {"name": "x"}});
        assert_eq!(change("name", &metadata).name.as_deref(), Some(""), "metadata is a member of the key");
    }

    #[test]
    fn unknown_mask_paths_are_rejected() {
        for mask in ["actor_id", "rate_limit_policy.quota", "*", "name,", ","] {
            assert!(read_mask(mask).is_err(), "{mask}");
        }
        assert_eq!(read_mask("name").unwrap(), Some(vec![Field::Name]));
    }
}
