//! What of a request's head reaches the upstream, and what of an answer's head reaches the client.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::config::AddedHeader;
use crate::key::encode_text;
use crate::wire::problem::X_REQUEST_ID;

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
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "http2-settings",
];

/// For each first byte, one bit for each length (31 stands for all above) that a name in the lists has: most names of most
/// requests are neither that long nor begin so, and need not be compared with any.
const SUSPECT_LENGTHS: [u32; 256] = {
    let mut lengths = mark([0; 256], &PRETENCES);
    lengths = mark(lengths, &CREDENTIALS);
    lengths = mark(lengths, &HOP_BY_HOP);
    lengths = mark(lengths, &["upgrade"]);
    let mut index = 0;
    while index < PRETENCE_PREFIXES.len() {
        let prefix = PRETENCE_PREFIXES[index].as_bytes();
        lengths[prefix[0] as usize] |= u32::MAX << prefix.len();
        index += 1;
    }
    lengths
};

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

/// Who asks, as field values; of what the upstream is to be told.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The key's id.
    pub key_id: Option<HeaderValue>,
    /// Whom the key was issued to.
    pub actor_id: Option<HeaderValue>,
    /// Whom the key belongs to.
    pub tenant_id: Option<HeaderValue>,
    /// What the key may be used for.
    pub scopes: Option<HeaderValue>,
    /// What kind of credential was presented.
    pub credential_type: Option<HeaderValue>,
}

/// What the edits of a request depend on beside its fields. What is absent is not added.
#[derive(Debug)]
pub struct Hop<'a> {
    /// Who asks; nobody in particular when absent.
    pub identity: Option<Identity>,
    /// Whether the credential is ours; on routes that look for none it is the upstream's.
    pub take_credential: bool,
    /// The client's address, by [`forwarded_for`].
    pub peer: Option<HeaderValue>,
    /// How the client reached us.
    pub proto: Option<&'static str>,
    /// The host that the client asked for, by which the route was found; empty when it named none.
    pub host: Option<&'a str>,
    /// The request's id.
    pub request_id: Option<&'a HeaderValue>,
    /// The `Host` that the upstream is to see.
    pub upstream_host: HeaderValue,
}

/// Which fields an upstream is to see. A bit for each.
#[derive(Debug, Clone, Copy)]
pub struct Added(u16);

impl Added {
    /// These fields.
    pub fn new(headers: &[AddedHeader]) -> Self {
        Self(headers.iter().fold(0, |bits, header| bits | 1 << *header as u16))
    }

    /// The value of a field, if an upstream is to see it.
    pub fn when<T>(self, header: AddedHeader, value: impl FnOnce() -> T) -> Option<T> {
        (self.0 >> header as u16 & 1 == 1).then(value)
    }
}

/// Most fields that are added to a request.
const ADDED_MAX: usize = 10;

/// Makes a client's fields into what the upstream sees.
pub fn edit_request(fields: &mut HeaderMap, hop: Hop<'_>) {
    let upgrade = asks_for_upgrade(fields);
    take_out(fields, upgrade, |name| is_pretence(name) || (hop.take_credential && is_credential(name)));
    fields.reserve(ADDED_MAX);
    let asked = fields.insert(HOST, hop.upstream_host);
    let host = hop.host.filter(|host| !host.is_empty()).map(|host| forwarded_host(asked, host));
    let added = [
        (X_REQUEST_ID, hop.request_id.cloned()),
        (X_FORWARDED_FOR, hop.peer),
        (X_FORWARDED_PROTO, hop.proto.map(HeaderValue::from_static)),
        (X_FORWARDED_HOST, host),
    ];
    add(fields, added);
    if let Some(identity) = hop.identity {
        introduce(fields, identity);
    }
}

/// Makes an upstream's fields into what the client sees.
pub fn edit_response(fields: &mut HeaderMap, status: StatusCode, request_id: &HeaderValue) {
    // The only answers in which `Upgrade` is for the client rather than for us: "I did", and "you must".
    let upgrade = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED)
        && fields.contains_key(UPGRADE);
    take_out(fields, upgrade, |_| false);
    fields.insert(X_REQUEST_ID, request_id.clone());
}

/// A client's address as `X-Forwarded-For` names it. The same for all requests of a connection.
pub fn forwarded_for(peer: IpAddr) -> HeaderValue {
    owned(peer.to_canonical().to_string())
}

/// A value of a text that was encoded for one beforehand; no copy is made.
pub fn ready(text: &Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text.clone()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A value of a text that has only legal characters, without another copy of it.
pub fn owned(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn introduce(fields: &mut HeaderMap, identity: Identity) {
    let added = [
        (KEY_ID, identity.key_id),
        (ACTOR_ID, identity.actor_id),
        (TENANT_ID, identity.tenant_id),
        (SCOPES, identity.scopes),
        (CREDENTIAL_TYPE, identity.credential_type),
    ];
    add(fields, added);
}

fn add<const N: usize>(fields: &mut HeaderMap, added: [(HeaderName, Option<HeaderValue>); N]) {
    for (name, value) in added {
        if let Some(value) = value {
            fields.insert(name, value);
        }
    }
}

/// Takes out what is for one connection only, and what is `unwanted` beside it.
fn take_out(fields: &mut HeaderMap, upgrade: bool, unwanted: impl Fn(&str) -> bool) {
    let listed: SmallVec<[HeaderName; 2]> = list(fields, &CONNECTION)
        .filter(|option| !ESSENTIAL.iter().any(|name| name.eq_ignore_ascii_case(option)))
        .filter_map(|option| option.parse().ok())
        .collect();
    let goes = |name: &str| HOP_BY_HOP.contains(&name) || (!upgrade && name == UPGRADE) || unwanted(name);
    let present: SmallVec<[HeaderName; 4]> =
        fields.keys().filter(|name| is_suspect(name.as_str()) && goes(name.as_str())).cloned().collect();
    for name in listed.iter().chain(&present) {
        fields.remove(name);
    }
    if upgrade {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Whether a name may be in one of the lists; by a glance at it, and never wrong about one that is.
fn is_suspect(name: &str) -> bool {
    let first = name.as_bytes().first().copied().unwrap_or_default();
    SUSPECT_LENGTHS[usize::from(first)] >> name.len().min(31) & 1 == 1
}

const fn mark(mut lengths: [u32; 256], names: &[&str]) -> [u32; 256] {
    let mut index = 0;
    while index < names.len() {
        let name = names[index].as_bytes();
        lengths[name[0] as usize] |= 1 << name.len();
        index += 1;
    }
    lengths
}

fn is_pretence(name: &str) -> bool {
    PRETENCE_PREFIXES.iter().any(|prefix| begins_with(name, prefix))
        || PRETENCES.iter().any(|plain| folds_to(name, plain))
}

fn is_credential(name: &str) -> bool {
    CREDENTIALS.iter().any(|plain| folds_to(name, plain))
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
    if !fields.contains_key(UPGRADE) {
        return false;
    }
    let is_judged = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default();
        !UNJUDGED_PROTOCOLS.iter().any(|unjudged| unjudged.eq_ignore_ascii_case(name))
    };
    let readable = fields.get_all(UPGRADE).iter().all(|value| value.to_str().is_ok());
    readable
        && list(fields, &UPGRADE).all(is_judged)
        && list(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// The members of a field that is a list.
fn list<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'f str> {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

/// The host that was asked for; usually what the `Host` field said, which is then passed on as it came.
fn forwarded_host(asked: Option<HeaderValue>, host: &str) -> HeaderValue {
    match asked {
        Some(asked) if asked == host && is_plain(host) => asked,
        _ => verbatim(host),
    }
}

/// A text as it is, if a field value can hold it: hosts, which have no escapes.
fn verbatim(text: &str) -> HeaderValue {
    match HeaderValue::from_str(text) {
        Ok(value) if is_plain(text) => value,
        _ => owned(encode_text(text).into_owned()),
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests;
