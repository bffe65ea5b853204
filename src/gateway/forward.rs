//! What of a request's head reaches the upstream, and what of an answer's head reaches the client.

use std::net::IpAddr;

use http::header::{CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::key::{encode_text, encode_words};
use crate::wire::problem::X_REQUEST_ID;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEY_ID: HeaderName = HeaderName::from_static("x-keygate-key-id");
const ACTOR_ID: HeaderName = HeaderName::from_static("x-keygate-actor-id");
const TENANT_ID: HeaderName = HeaderName::from_static("x-keygate-tenant-id");
const SCOPES: HeaderName = HeaderName::from_static("x-keygate-scopes");
const CREDENTIAL_TYPE: HeaderName = HeaderName::from_static("x-keygate-credential-type");

/// Fields by which a client could pretend to be somebody, to be somewhere, or to ask for something else than it was
/// judged for. Compared by [`folds_to`].
const PRETENCES: [&str; 14] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-request-id",
];
const PRETENCE_PREFIXES: [&str; 2] = ["x-keygate-", "x-forwarded-"];

/// Fields that carry credentials. Compared by [`folds_to`].
const CREDENTIALS: [&str; 2] = ["authorization", "x-api-key"];

/// Fields for one connection only (RFC 9110 section 7.6.1). `Transfer-Encoding` is the proxy framework's to frame with.
const HOP_BY_HOP: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, HTTP2_SETTINGS];

/// Fields that a `Connection` field cannot take out: without them the message would be another one.
const ESSENTIAL: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "content-encoding",
    "content-range",
    "cache-control",
    "connection",
    "upgrade",
];

/// Protocols in which the client could go on to send requests that nobody judges.
const UNJUDGED_PROTOCOLS: [&str; 5] = ["h2c", "h2", "h3", "http", "tls"];

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The key's id.
    pub key_id: &'a str,
    /// Whom the key was issued to.
    pub actor_id: &'a str,
    /// Whom the key belongs to.
    pub tenant_id: &'a str,
    /// What the key may be used for.
    pub scopes: &'a [Box<str>],
    /// What kind of credential was presented.
    pub credential_type: &'static str,
}

/// What the edits of a request depend on beside its fields.
#[derive(Debug)]
pub struct Hop<'a> {
    /// Who asks; nobody in particular when absent.
    pub identity: Option<Identity<'a>>,
    /// Whether the credential is ours; on routes that look for none it is the upstream's.
    pub take_credential: bool,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// How the client reached us.
    pub proto: &'static str,
    /// The host that the client asked for, by which the route was found; empty when it named none.
    pub host: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The `Host` that the upstream is to see.
    pub upstream_host: HeaderValue,
}

/// The fields of a message, however a server keeps them.
pub trait HeaderEdit {
    /// The fields as they are.
    fn headers(&self) -> &HeaderMap;
    /// Sets a field, in place of all of that name.
    fn insert(&mut self, name: HeaderName, value: HeaderValue);
    /// Takes out all fields of a name.
    fn remove(&mut self, name: &HeaderName);
}

impl HeaderEdit for HeaderMap {
    fn headers(&self) -> &HeaderMap {
        self
    }

    fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        HeaderMap::insert(self, name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// Makes a client's fields into what the upstream sees.
pub fn edit_request(fields: &mut impl HeaderEdit, hop: &Hop<'_>) {
    let upgrade = asks_for_upgrade(fields.headers());
    remove_hop_by_hop(fields, upgrade);
    for name in unwanted(fields.headers(), hop.take_credential) {
        fields.remove(&name);
    }
    fields.insert(HOST, hop.upstream_host.clone());
    fields.insert(X_REQUEST_ID, verbatim(hop.request_id));
    if let Some(peer) = hop.peer {
        fields.insert(X_FORWARDED_FOR, owned(peer.to_canonical().to_string()));
    }
    fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(hop.proto));
    if !hop.host.is_empty() {
        fields.insert(X_FORWARDED_HOST, verbatim(hop.host));
    }
    if let Some(identity) = &hop.identity {
        introduce(fields, identity);
    }
}

/// Makes an upstream's fields into what the client sees.
pub fn edit_response(fields: &mut impl HeaderEdit, status: StatusCode, request_id: &str) {
    // The only answers in which `Upgrade` is for the client rather than for us: "I did", and "you must".
    let upgrade = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED)
        && fields.headers().contains_key(UPGRADE);
    remove_hop_by_hop(fields, upgrade);
    fields.insert(X_REQUEST_ID, verbatim(request_id));
}

fn introduce(fields: &mut impl HeaderEdit, identity: &Identity<'_>) {
    fields.insert(KEY_ID, encoded(identity.key_id));
    fields.insert(ACTOR_ID, encoded(identity.actor_id));
    fields.insert(TENANT_ID, encoded(identity.tenant_id));
    fields.insert(SCOPES, scope_list(identity.scopes));
    fields.insert(CREDENTIAL_TYPE, HeaderValue::from_static(identity.credential_type));
}

fn unwanted(fields: &HeaderMap, take_credential: bool) -> Vec<HeaderName> {
    let matches = |name: &HeaderName, plain: &[&str]| plain.iter().any(|plain| folds_to(name.as_str(), plain));
    let unwanted = |name: &&HeaderName| {
        PRETENCE_PREFIXES.iter().any(|prefix| begins_with(name.as_str(), prefix))
            || matches(name, &PRETENCES)
            || (take_credential && matches(name, &CREDENTIALS))
    };
    fields.keys().filter(unwanted).cloned().collect()
}

/// Whether a field's name is `plain` to somebody who cannot tell punctuation apart: servers in the manner of CGI turn all
/// of it into `_`, so that `X_Keygate.Actor-Id` would overwrite ours.
fn folds_to(name: &str, plain: &str) -> bool {
    name.len() == plain.len() && begins_with(name, plain)
}

fn begins_with(name: &str, prefix: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    name.len() >= prefix.len() && name.bytes().map(fold).zip(prefix.bytes()).all(|(byte, wanted)| byte == wanted)
}

/// Whether the client asks to go on in another protocol, and in one that carries no requests past the rules.
fn asks_for_upgrade(fields: &HeaderMap) -> bool {
    let is_judged = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default();
        !UNJUDGED_PROTOCOLS.iter().any(|unjudged| unjudged.eq_ignore_ascii_case(name))
    };
    let readable = fields.get_all(UPGRADE).iter().all(|value| value.to_str().is_ok());
    fields.contains_key(UPGRADE)
        && readable
        && list(fields, &UPGRADE).all(is_judged)
        && list(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// The members of a field that is a list.
fn list<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'f str> {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

fn remove_hop_by_hop(fields: &mut impl HeaderEdit, upgrade: bool) {
    let listed: Vec<HeaderName> = list(fields.headers(), &CONNECTION)
        .filter(|option| !ESSENTIAL.iter().any(|name| name.eq_ignore_ascii_case(option)))
        .filter_map(|option| option.parse().ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
    if upgrade {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        fields.remove(&UPGRADE);
    }
}

/// A text as it is, if a field value can hold it: ids that are checked already, and hosts, which have no escapes.
fn verbatim(text: &str) -> HeaderValue {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && let Ok(value) = HeaderValue::from_str(text)
    {
        return value;
    }
    encoded(text)
}

/// A field value for any text: nothing in it can end the field, be cut off, or make it look like another text.
fn encoded(text: &str) -> HeaderValue {
    owned(encode_text(text).into_owned())
}

fn scope_list(scopes: &[Box<str>]) -> HeaderValue {
    owned(encode_words(scopes.iter().map(AsRef::as_ref)))
}

/// A value of a text that has only legal characters, without another copy of it.
fn owned(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
