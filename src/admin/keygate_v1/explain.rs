//! `explain`: why a request with a credential is accepted or rejected, step by step. An operation of Keygate, not of the contract.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schemas::OutcomeText;
use crate::admin::auth::op;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::state::AdminState;
use crate::admin::v2alpha1::key::IssuedApiKey;
use crate::credential::CREDENTIAL_MAX;
use crate::id::{KeyId, KeyKind};
use crate::pipeline::{ExplainRequest, ExplainSubject, Explanation, StepOutcome};
use crate::request_context::ActorScope;
use crate::wire::problem::rejection_status;

/// The longest URL in bytes.
const URL_MAX: usize = 8192;

/// A request to explain. Has no `Debug`, because it holds a credential.
#[derive(Deserialize, ToSchema)]
#[schema(as = ExplainRequest)]
pub(in crate::admin) struct ExplainBody {
    /// The credential, 1 to 8192 bytes. Never returned or logged.
    #[schema(nullable = false, max_length = 8192)]
    credential: Option<String>,
    /// The id of a key, instead of a credential.
    #[serde(alias = "keyId")]
    #[schema(nullable = false)]
    key_id: Option<String>,
    /// The method; `GET` if absent. Only with `url`.
    #[schema(nullable = false)]
    method: Option<String>,
    /// The URL of the request to the gateway, such as `https://api.example.com/orders/1`, or its path.
    #[schema(nullable = false, max_length = 8192)]
    url: Option<String>,
    /// The address of the client.
    #[serde(alias = "clientIp")]
    #[schema(nullable = false)]
    client_ip: Option<String>,
}

/// An explained request.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ExplainResponse {
    decision: DecisionBody,
    /// The kind of the credential, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credential_type: Option<&'static str>,
    /// The route that matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    route: Option<String>,
    steps: Vec<StepBody>,
    /// The key, or the parent of a token; `null` if there is none.
    key: Option<IssuedApiKey>,
}

/// What the gateway would do.
#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
struct DecisionBody {
    /// `null` if it depends on something that the request does not say.
    allowed: Option<bool>,
    /// The step that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    step: Option<&'static str>,
    /// The HTTP status and the code of the gateway's response.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<&'static str>,
}

/// A step of the decision.
#[derive(Serialize, ToSchema)]
#[schema(as = Step)]
struct StepBody {
    step: &'static str,
    #[schema(value_type = OutcomeText, inline)]
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<&'static str>,
    detail: String,
}

/// What an [`ExplainBody`] asks for, without the credential.
struct Question {
    key_id: Option<KeyId>,
    target: Option<(Method, Uri)>,
    client_ip: Option<IpAddr>,
}

/// Explains a request with a credential, or with a key by its id. Nothing is charged and no use is recorded.
#[utoipa::path(post, path = "/keygate/v1/explain", operation_id = "explain", tag = "credentials", request_body = ExplainBody,
    responses((status = 200, description = "The decision and its steps", body = ExplainResponse),
        (status = 400, description = "A member is invalid", body = ErrorResponse),
        (status = 404, description = "There is no such key for this caller", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn explain(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::Explain>,
    Body(body): Body<ExplainBody>,
) -> Result<Response, ApiError> {
    let Question { key_id, target, client_ip } = body.read()?;
    if target.is_some() && !state.has_routes {
        return Err(ApiError::invalid("this configuration has no gateway; leave out method and url"));
    }
    let subject = match (&body.credential, key_id) {
        (_, Some(id)) => ExplainSubject::Key(id),
        (credential, None) => ExplainSubject::Credential(credential.as_deref().unwrap_or_default()),
    };
    let explanation = state.snapshot.explain(&ExplainRequest { subject, target, client_ip }).await;
    // The database may be unavailable, which a step says.
    let key = match &explanation.bearer {
        Some(bearer) => state.lifecycle.get(&context, bearer.key_id()).await.ok(),
        None => None,
    };
    if context.actors != ActorScope::All && explanation.bearer.is_some() && key.is_none() {
        return Err(ApiError::new(Reason::NotFound, "no key with this id"));
    }
    let key = key.map(|key| IssuedApiKey::new(&key, state.lifecycle.now()));
    let mut response = Json(ExplainResponse::new(explanation, key)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl ExplainBody {
    fn read(&self) -> Result<Question, ApiError> {
        let given = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
        let credential = given(&self.credential);
        let key_id = given(&self.key_id);
        if credential.is_some() == key_id.is_some() {
            return Err(ApiError::invalid("give either credential or key_id"));
        }
        if credential.is_some_and(|credential| credential.len() > CREDENTIAL_MAX) {
            return Err(ApiError::invalid(format!("credential must have 1 to {CREDENTIAL_MAX} bytes")));
        }
        let kinds = [KeyKind::Issued, KeyKind::Imported];
        let parse = |id: String| {
            let id = kinds.into_iter().find_map(|kind| KeyId::parse(kind, &id));
            id.ok_or_else(|| ApiError::invalid("key_id is not the id of a key"))
        };
        let address = |text: String| text.parse::<IpAddr>().map(|address| address.to_canonical());
        let client_ip = given(&self.client_ip).map(address).transpose();
        Ok(Question {
            key_id: key_id.map(parse).transpose()?,
            target: self.target()?,
            client_ip: client_ip.map_err(|_| ApiError::invalid("client_ip must be an IP address without a port"))?,
        })
    }

    fn target(&self) -> Result<Option<(Method, Uri)>, ApiError> {
        let method = self.method.as_deref().filter(|method| !method.is_empty());
        let Some(url) = self.url.as_deref().filter(|url| !url.is_empty()) else {
            return match method {
                Some(_) => Err(ApiError::invalid("method is given without url")),
                None => Ok(None),
            };
        };
        let method = Method::from_bytes(method.unwrap_or("GET").as_bytes());
        let method = method.map_err(|_| ApiError::invalid("method is not an HTTP method"))?;
        // The message does not repeat the URL, which could contain a secret.
        let uri = Some(url).filter(|url| url.len() <= URL_MAX).and_then(|url| url.parse::<Uri>().ok());
        let is_request = |uri: &Uri| uri.path().starts_with('/');
        let uri = uri.filter(is_request).ok_or_else(|| {
            ApiError::invalid(format!(
                "url must be a URL such as https://api.example.com/orders, or a path, of at most {URL_MAX} bytes"
            ))
        })?;
        Ok(Some((method, uri)))
    }
}

impl ExplainResponse {
    fn new(explanation: Explanation, key: Option<IssuedApiKey>) -> Self {
        let Explanation { steps, rejection, undecided, route, bearer } = explanation;
        let decision = match (&rejection, undecided) {
            (Some((step, rejection)), _) => DecisionBody {
                allowed: Some(false),
                step: Some(step),
                status: Some(rejection_status(rejection).as_u16()),
                code: Some(rejection.code()),
            },
            (None, Some(step)) => DecisionBody { allowed: None, step: Some(step), status: None, code: None },
            (None, None) => DecisionBody { allowed: Some(true), step: None, status: None, code: None },
        };
        let step = |(step, outcome)| match outcome {
            StepOutcome::Passed(detail) => StepBody { step, outcome: "passed", code: None, detail },
            StepOutcome::Failed(rejection, detail) => {
                StepBody { step, outcome: "failed", code: Some(rejection.code()), detail }
            }
            StepOutcome::Skipped(detail) => StepBody { step, outcome: "skipped", code: None, detail },
        };
        Self {
            decision,
            credential_type: bearer.map(|bearer| bearer.kind().name()),
            route: route.map(|route| route.to_string()),
            steps: steps.into_iter().map(step).collect(),
            key,
        }
    }
}
