//! Admin keys: list, create, rotate, revoke.

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::secret::SecretPage;
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::AdminKey;
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::signed_in::{Posted, SignedIn};
use crate::admin::console::time::Moment;
use crate::id::KeyId;

const ADMIN_KEYS: &str = "/keygate/v1/adminKeys";
const HOME: &str = "/console/admin-keys";
/// The roles with what they permit.
const ROLES: [(&str, &str); 4] = [
    ("read", "list keys, usage, audit trail, configuration"),
    ("verify", "verify, introspect and explain credentials"),
    ("manage", "issue, import, change, rotate and revoke keys"),
    ("admin", "create, rotate and revoke admin keys"),
];

#[derive(Template)]
#[template(path = "console/admin_keys.html")]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    /// The query of the next page; empty on the last one.
    next: String,
    /// Whether keys that are not active are shown.
    is_all: bool,
    /// How many keys of this page are hidden.
    hidden: usize,
}

struct Row {
    key: AdminKey,
    created: Moment,
    expires: Option<Moment>,
    used: Option<Moment>,
    /// Whether it is the key of this session.
    is_own: bool,
}

#[derive(Template)]
#[template(path = "console/admin_key_new.html")]
struct CreatePage {
    page: Page,
    fields: Fields,
}

#[derive(Template)]
#[template(path = "console/admin_key_change.html")]
struct ChangePage {
    page: Page,
    key: AdminKey,
    /// `rotate` or `revoke`.
    verb: &'static str,
    is_own: bool,
}

#[derive(Deserialize)]
struct AdminKeys {
    admin_keys: Vec<AdminKey>,
    next_page_token: String,
}

#[derive(Deserialize)]
struct NewAdminKey {
    secret: String,
}

/// Shows the list.
pub(super) async fn show(who: SignedIn, fields: Fields) -> Result<Response, Failure> {
    let parameters = [("page_size", "100"), ("page_token", fields.text("page_token"))];
    let AdminKeys { admin_keys, next_page_token } = who.api.find(ADMIN_KEYS, &parameters).await?;
    let is_all = fields.text("status") == "all";
    let next =
        if next_page_token.is_empty() { String::new() } else { fields.query(&[("page_token", &next_page_token)]) };
    let count = admin_keys.len();
    let shown = admin_keys.into_iter().filter(|key| is_all || key.is_active());
    let rows: Vec<_> = shown.map(|key| Row::new(key, &who)).collect();
    let page = who.page(Section::AdminKeys, "Admin keys").with_notice(fields.text("done"));
    Ok(html(&ListPage { page, hidden: count - rows.len(), rows, next, is_all }))
}

/// Shows the form for a new key.
pub(super) async fn show_new(who: SignedIn) -> Response {
    let mut fields = Fields::default();
    fields.set("ttl", "90d");
    fields.set("request_id", uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string());
    html(&CreatePage { page: who.page(Section::AdminKeys, "Create an admin key"), fields })
}

/// Creates the key of the form.
pub(super) async fn create(Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let optional = |name: &str| Some(fields.text(name)).filter(|text| !text.is_empty());
    let networks = fields.lines("networks");
    let message = json!({
        "name": fields.text("name"),
        "roles": fields.all("role"),
        "actors": fields.lines("actors"),
        "ttl": optional("ttl"),
        "ip_restriction": (!networks.is_empty()).then(|| json!({"allowed_cidrs": networks})),
        "request_id": optional("request_id"),
    });
    match who.api.call(Method::POST, ADMIN_KEYS, &message).await {
        Ok(NewAdminKey { secret }) => Ok(secret_page(&who, "The admin key is created", secret)),
        // 403 is about the roles that the caller cannot grant: who is no administrator sees no form.
        Err(failure) if failure.is_correctable() || (failure.status == 403 && who.caller.can_administrate()) => {
            let page = who.page(Section::AdminKeys, "Create an admin key").with_error(sentence(&failure.message));
            let form = CreatePage { page, fields };
            Ok(form_html(&form.page, &form))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// The page that confirms the rotation of a key.
pub(super) async fn show_rotate(who: SignedIn, Path(id): Path<String>) -> Result<Response, Failure> {
    change_page(&who, &id, "rotate").await
}

/// The page that confirms the revocation of a key.
pub(super) async fn show_revoke(who: SignedIn, Path(id): Path<String>) -> Result<Response, Failure> {
    change_page(&who, &id, "revoke").await
}

/// Rotates a key.
pub(super) async fn rotate(Path(id): Path<String>, Posted { who, .. }: Posted) -> Result<Response, Failure> {
    let path = path(&id)?;
    let NewAdminKey { secret } = who.api.call(Method::POST, &format!("{path}:rotate"), &json!({})).await?;
    Ok(secret_page(&who, "The admin key is rotated", secret))
}

/// Revokes a key.
pub(super) async fn revoke(Path(id): Path<String>, Posted { who, .. }: Posted) -> Result<Response, Failure> {
    let path = path(&id)?;
    who.api.call::<Value>(Method::POST, &format!("{path}:revoke"), &json!({})).await?;
    Ok(Redirect::to(&format!("{HOME}?done=revoked")).into_response())
}

fn path(id: &str) -> Result<String, Failure> {
    let id = KeyId::parse_issued(id).ok_or_else(Failure::not_found)?;
    Ok(format!("{ADMIN_KEYS}/{id}"))
}

async fn change_page(who: &SignedIn, id: &str, verb: &'static str) -> Result<Response, Failure> {
    let key: AdminKey = who.api.get(&path(id)?).await?;
    let title = if verb == "rotate" { "Rotate an admin key" } else { "Revoke an admin key" };
    let is_own = key.id == who.caller.name;
    Ok(html(&ChangePage { page: who.page(Section::AdminKeys, title), key, verb, is_own }))
}

fn secret_page(who: &SignedIn, heading: &'static str, secret: String) -> Response {
    html(&SecretPage { page: who.page(Section::AdminKeys, heading), heading, secret, next: HOME.to_owned() })
}

impl Row {
    fn new(key: AdminKey, who: &SignedIn) -> Self {
        Self {
            created: Moment::new(key.create_time, who.now),
            expires: key.expire_time.map(|time| Moment::new(time, who.now)),
            used: key.last_used_time.map(|time| Moment::of_day(time, who.now)),
            is_own: key.id == who.caller.name,
            key,
        }
    }
}

impl CreatePage {
    /// The roles with what they permit, and whether they are selected. A person can grant only roles of its own.
    fn roles(&self) -> Vec<(&'static str, &'static str, bool)> {
        let selected = self.fields.all("role");
        let own = ROLES.into_iter().filter(|(name, _)| self.page.caller.roles.iter().any(|role| role == name));
        own.map(|(name, words)| (name, words, selected.contains(&name))).collect()
    }
}
