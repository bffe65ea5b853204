//! Header editing: which fields of a request head reach the upstream, and which fields of a response head reach the client.
//!
//! The rules read a head through [`Fields`] and return [`FieldEdits`]: which names are removed and which fields are set. A front
//! applies the edits to the form in which it keeps the head, a [`HeaderMap`] or bytes.

mod names;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use self::names::{
    HOP_BY_HOP, IDENTITY_PREFIX, folds_to, folds_to_prefix, is_ambiguous, is_credential, is_possibly_listed,
    is_same_name, is_spoofable,
};
use crate::config::AddedHeader;
use crate::key::encode_text;
use crate::verifier::Verdict;
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::fields::{Fields, length_bit, text};
use crate::wire::forwarded::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::wire::problem::X_REQUEST_ID;
use crate::wire::ratelimit::{
    RATE_LIMIT, RATE_LIMIT_POLICY, X_RATE_LIMIT_LIMIT, X_RATE_LIMIT_REMAINING, X_RATE_LIMIT_RESET,
};

/// The names of the fields that edits set. An enum, because a [`HeaderName`] is expensive to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetName {
    /// `Connection`
    Connection,
    /// `Host`
    Host,
    /// `X-Request-Id`
    RequestId,
    /// `traceparent`
    TraceParent,
    /// `tracestate`
    TraceState,
    /// `X-Forwarded-For`
    ForwardedFor,
    /// `X-Forwarded-Proto`
    ForwardedProto,
    /// `X-Forwarded-Host`
    ForwardedHost,
    /// `X-Keygate-Key-Id`
    KeyId,
    /// `X-Keygate-Actor-Id`
    ActorId,
    /// `X-Keygate-Tenant-Id`
    TenantId,
    /// `X-Keygate-Scopes`
    Scopes,
    /// `X-Keygate-Credential-Type`
    CredentialType,
    /// `X-Keygate-Client-Subject`
    ClientSubject,
    /// `X-Keygate-Client-San`
    ClientSan,
    /// `RateLimit-Policy`
    RateLimitPolicy,
    /// `RateLimit`
    RateLimit,
    /// `X-RateLimit-Limit`
    LegacyLimit,
    /// `X-RateLimit-Remaining`
    LegacyRemaining,
    /// `X-RateLimit-Reset`
    LegacyReset,
}

/// Headers that a `Connection` header cannot remove: without them the message would have another meaning.
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

/// The only protocol that a client may upgrade to. Others are stripped: some, such as `h2c`, carry requests that the pipeline does not see.
const ALLOWED_UPGRADE: &str = "websocket";

/// The most fields that are set on a request.
const REQUEST_SET_MAX: usize = 14;
/// Inline capacity for set fields: enough for most responses. Larger edits are on the heap, which is cheaper than to move them.
const SET_INLINE: usize = 3;

/// The identity of the caller as field values; `None` for a field that the upstream does not get.
#[derive(Debug, Clone, Default)]
pub struct IdentityHeaders {
    /// The id of the key.
    pub key_id: Option<HeaderValue>,
    /// The actor that the key was issued to.
    pub actor_id: Option<HeaderValue>,
    /// The tenant of the key.
    pub tenant_id: Option<HeaderValue>,
    /// The scopes of the credential.
    pub scopes: Option<HeaderValue>,
    /// The kind of the credential.
    pub credential_type: Option<HeaderValue>,
}

/// The certificate of the client as field values; `None` for a field that the upstream does not get.
#[derive(Debug, Clone, Default)]
pub struct CertificateHeaders {
    /// The subject.
    pub subject: Option<HeaderValue>,
    /// The alternative names, separated by spaces.
    pub san: Option<HeaderValue>,
}

/// What the edits of a request depend on besides its fields. A field that is `None` is not set.
#[derive(Debug)]
pub struct ForwardContext<'a> {
    /// The identity of the caller; `None` for an anonymous request.
    pub identity: Option<IdentityHeaders>,
    /// The locations whose fields are stripped. `None` on a route without authentication, where credentials belong to the upstream.
    pub credentials: Option<&'a Arc<CredentialLocations>>,
    /// The client's address, from [`forwarded_for`].
    pub forwarded_for: Option<HeaderValue>,
    /// The scheme that the client used.
    pub proto: Option<&'static str>,
    /// The host that the client requested; empty if it named none.
    pub host: Option<&'a str>,
    /// The request id.
    pub request_id: Option<&'a HeaderValue>,
    /// The certificate of the client.
    pub certificate: CertificateHeaders,
    /// The `Host` for the upstream.
    pub upstream_host: HeaderValue,
    /// Whether names with an underscore or a dot are kept.
    pub allow_underscores: bool,
}

/// The headers that an upstream gets, as a bit set over [`AddedHeader`].
#[derive(Debug, Clone, Copy)]
pub struct HeaderSelection(u16);

/// Changes to the fields of a head, as data: names that are removed, and fields that are set. A field that is set replaces all fields
/// of its name.
#[derive(Debug, Default)]
pub struct FieldEdits {
    strip: Strip,
    set: SmallVec<[(SetName, HeaderValue); SET_INLINE]>,
    /// A bit for the length of each name that is set, so that most names need no comparison.
    set_lengths: u64,
    /// Edits of other names; `None` for most routes.
    custom: Option<Box<CustomEdits>>,
}

/// Edits of names that a configuration chooses. They come after all others.
#[derive(Debug, Default)]
struct CustomEdits {
    removed: Vec<HeaderName>,
    added: Vec<(HeaderName, HeaderValue)>,
}

/// The names that are removed.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a list of names that is removed or not")]
struct Strip {
    /// Options of `Connection` and other names beyond the fixed lists.
    names: Vec<HeaderName>,
    hop_by_hop: bool,
    upgrade: bool,
    spoofable: bool,
    identity: bool,
    credential: bool,
    /// The locations of the route, if they are in other fields than the standard ones.
    locations: Option<Arc<CredentialLocations>>,
    /// Names with an underscore or a dot.
    ambiguous: bool,
}

impl SetName {
    /// The name of the field.
    pub fn header(self) -> HeaderName {
        match self {
            Self::Connection => CONNECTION,
            Self::Host => HOST,
            Self::RequestId => X_REQUEST_ID,
            Self::TraceParent => const { HeaderName::from_static("traceparent") },
            Self::TraceState => const { HeaderName::from_static("tracestate") },
            Self::ForwardedFor => X_FORWARDED_FOR,
            Self::ForwardedProto => X_FORWARDED_PROTO,
            Self::ForwardedHost => X_FORWARDED_HOST,
            Self::KeyId => const { HeaderName::from_static("x-keygate-key-id") },
            Self::ActorId => const { HeaderName::from_static("x-keygate-actor-id") },
            Self::TenantId => const { HeaderName::from_static("x-keygate-tenant-id") },
            Self::Scopes => const { HeaderName::from_static("x-keygate-scopes") },
            Self::CredentialType => const { HeaderName::from_static("x-keygate-credential-type") },
            Self::ClientSubject => const { HeaderName::from_static("x-keygate-client-subject") },
            Self::ClientSan => const { HeaderName::from_static("x-keygate-client-san") },
            Self::RateLimitPolicy => RATE_LIMIT_POLICY,
            Self::RateLimit => RATE_LIMIT,
            Self::LegacyLimit => X_RATE_LIMIT_LIMIT,
            Self::LegacyRemaining => X_RATE_LIMIT_REMAINING,
            Self::LegacyReset => X_RATE_LIMIT_RESET,
        }
    }

    /// The name of the field as text. Cheaper than a [`HeaderName`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Host => "host",
            Self::RequestId => "x-request-id",
            Self::TraceParent => "traceparent",
            Self::TraceState => "tracestate",
            Self::ForwardedFor => "x-forwarded-for",
            Self::ForwardedProto => "x-forwarded-proto",
            Self::ForwardedHost => "x-forwarded-host",
            Self::KeyId => "x-keygate-key-id",
            Self::ActorId => "x-keygate-actor-id",
            Self::TenantId => "x-keygate-tenant-id",
            Self::Scopes => "x-keygate-scopes",
            Self::CredentialType => "x-keygate-credential-type",
            Self::ClientSubject => "x-keygate-client-subject",
            Self::ClientSan => "x-keygate-client-san",
            Self::RateLimitPolicy => "ratelimit-policy",
            Self::RateLimit => "ratelimit",
            Self::LegacyLimit => "x-ratelimit-limit",
            Self::LegacyRemaining => "x-ratelimit-remaining",
            Self::LegacyReset => "x-ratelimit-reset",
        }
    }
}

impl HeaderSelection {
    /// A selection of these headers.
    pub fn new(headers: &[AddedHeader]) -> Self {
        Self(headers.iter().fold(0, |bits, header| bits | 1 << *header as u16))
    }

    /// The value of a header, computed only if the header is selected.
    pub fn when<T>(self, header: AddedHeader, value: impl FnOnce() -> T) -> Option<T> {
        (self.0 >> header as u16 & 1 == 1).then(value)
    }

    /// The identity headers for a verdict; `tenant` is the tenant's id as a field value.
    pub fn identity(self, verdict: &Verdict, tenant: &HeaderValue) -> IdentityHeaders {
        IdentityHeaders {
            key_id: self.when(AddedHeader::XKeygateKeyId, || verdict.key_id().value()),
            actor_id: self.when(AddedHeader::XKeygateActorId, || shared_value(verdict.actor().field())),
            tenant_id: self.when(AddedHeader::XKeygateTenantId, || tenant.clone()),
            scopes: self.when(AddedHeader::XKeygateScopes, || shared_value(verdict.grant().field())),
            credential_type: self
                .when(AddedHeader::XKeygateCredentialType, || HeaderValue::from_static(verdict.kind().name())),
        }
    }
}

impl FieldEdits {
    /// Whether the fields of a name are removed or replaced. Names compare without regard to case.
    pub fn removes(&self, name: &str) -> bool {
        self.strips(name) || self.sets(name)
    }

    #[inline]
    fn sets(&self, name: &str) -> bool {
        length_bit(name) & self.set_lengths != 0
            && self.set.iter().any(|(set, _)| set.as_str().eq_ignore_ascii_case(name))
    }

    #[inline]
    fn strips(&self, name: &str) -> bool {
        self.strip.removes(name) || self.custom.as_ref().is_some_and(|custom| custom.removes(name))
    }

    /// The fields that are set.
    pub fn set(&self) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        let custom = self.custom.iter().flat_map(|custom| &custom.added);
        let custom = custom.map(|(name, value)| (name.clone(), value));
        self.set.iter().map(|(name, value)| (name.header(), value)).chain(custom)
    }

    /// The fields that are set, with their names as text.
    pub fn set_as_text(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        let custom = self.custom.iter().flat_map(|custom| &custom.added);
        let custom = custom.map(|(name, value)| (name.as_str(), value));
        self.set.iter().map(|(name, value)| (name.as_str(), value)).chain(custom)
    }

    /// Applies the edits to a map, and leaves nothing to set.
    pub fn apply(&mut self, fields: &mut HeaderMap) {
        let removed: SmallVec<[HeaderName; 4]> =
            fields.keys().filter(|name| self.strips(name.as_str())).cloned().collect();
        for name in &removed {
            fields.remove(name);
        }
        fields.reserve(self.set.len());
        for (name, value) in self.set.drain(..) {
            fields.insert(name.header(), value);
        }
        if let Some(custom) = self.custom.take() {
            for (name, value) in custom.added {
                fields.append(name, value);
            }
        }
    }

    /// Sets a field.
    #[inline]
    pub(super) fn set_field(&mut self, name: SetName, value: HeaderValue) {
        self.set_lengths |= length_bit(name.as_str());
        self.set.push((name, value));
    }

    /// Sets a field if there is a value.
    #[inline]
    pub(super) fn set_some(&mut self, name: SetName, value: Option<HeaderValue>) {
        if let Some(value) = value {
            self.set_field(name, value);
        }
    }

    /// Replaces all fields of a name, received ones and those of earlier edits, or removes them if there is no value. A received name that
    /// differs only in punctuation is removed, too: some servers do not distinguish them.
    pub(super) fn replace(&mut self, name: &HeaderName, value: Option<HeaderValue>) {
        self.set.retain(|(set, _)| set.header() != *name);
        let custom = self.custom.get_or_insert_default();
        custom.added.retain(|(added, _)| added != name);
        custom.removed.push(name.clone());
        custom.added.extend(value.map(|value| (name.clone(), value)));
    }

    /// Adds a field to those of its name, if there is a value.
    pub(super) fn add(&mut self, name: &HeaderName, value: Option<HeaderValue>) {
        if let Some(value) = value {
            self.custom.get_or_insert_default().added.push((name.clone(), value));
        }
    }

    /// Removes the fields of a name.
    pub(super) fn remove_field(&mut self, name: SetName) {
        self.strip.names.push(name.header());
    }
}

impl CustomEdits {
    fn removes(&self, name: &str) -> bool {
        self.removed.iter().any(|removed| is_same_name(name, removed.as_str()))
    }
}

impl Strip {
    /// Removes what is for one connection only: the hop-by-hop headers, and what `Connection` names (RFC 9110 section 7.6.1).
    fn hop_by_hop<F: Fields>(fields: &F, keep_upgrade: bool) -> Self {
        let is_listed = |names: &[&str], option: &str| names.iter().any(|name| name.eq_ignore_ascii_case(option));
        // Those that are removed anyway need no name, such as `keep-alive`, which most upstreams send.
        let names = list(fields, &CONNECTION)
            .filter(|option| !is_listed(&ESSENTIAL, option) && !is_listed(&HOP_BY_HOP, option))
            .filter_map(|option| option.parse().ok())
            .collect();
        Self { names, hop_by_hop: true, upgrade: !keep_upgrade, ..Self::default() }
    }

    fn removes(&self, name: &str) -> bool {
        (is_possibly_listed(name) && self.lists(name))
            || (self.ambiguous && is_ambiguous(name))
            || self.names.iter().any(|removed| removed.as_str().eq_ignore_ascii_case(name))
            || self.is_location(name)
    }

    fn is_location(&self, name: &str) -> bool {
        let listed = self.locations.as_ref().map(|locations| locations.other_fields());
        listed.is_some_and(|listed| listed.iter().any(|listed| folds_to(name, listed)))
    }

    fn set_credentials(&mut self, locations: Option<&Arc<CredentialLocations>>) {
        self.credential = locations.is_some();
        self.locations = locations.filter(|locations| !locations.other_fields().is_empty()).cloned();
    }

    fn lists(&self, name: &str) -> bool {
        (self.hop_by_hop && HOP_BY_HOP.iter().any(|listed| listed.eq_ignore_ascii_case(name)))
            || (self.upgrade && name.eq_ignore_ascii_case("upgrade"))
            || (self.spoofable && is_spoofable(name))
            || (self.identity && folds_to_prefix(name, IDENTITY_PREFIX))
            || (self.credential && is_credential(name))
    }
}

/// The edits that turn a client's request head into what the upstream gets: strip the credential and all spoofable headers, then set
/// the identity headers.
pub fn edit_request<F: Fields>(fields: &F, context: ForwardContext<'_>) -> FieldEdits {
    let upgrade = requests_upgrade(fields);
    let mut strip = Strip::hop_by_hop(fields, upgrade);
    (strip.spoofable, strip.ambiguous) = (true, !context.allow_underscores);
    strip.set_credentials(context.credentials);
    let mut edits = FieldEdits { strip, set: SmallVec::with_capacity(REQUEST_SET_MAX), ..FieldEdits::default() };
    if upgrade {
        edits.set_field(SetName::Connection, HeaderValue::from_static("upgrade"));
    }
    edits.set_field(SetName::Host, context.upstream_host);
    edits.set_some(SetName::RequestId, context.request_id.cloned());
    edits.set_some(SetName::ForwardedFor, context.forwarded_for);
    edits.set_some(SetName::ForwardedProto, context.proto.map(HeaderValue::from_static));
    edits.set_some(SetName::ForwardedHost, context.host.and_then(|host| forwarded_host(fields, host)));
    edits.set_some(SetName::ClientSubject, context.certificate.subject);
    edits.set_some(SetName::ClientSan, context.certificate.san);
    if let Some(identity) = context.identity {
        set_identity_headers(&mut edits, identity);
    }
    edits
}

/// The edits for a service that receives the request from another server, or in this process: strip the credential and the identity
/// headers that the client sent, then set the caller's. Everything else belongs to the server that received the request.
pub fn edit_identity(identity: Option<IdentityHeaders>, credentials: Option<&Arc<CredentialLocations>>) -> FieldEdits {
    let mut strip = Strip { identity: true, ..Strip::default() };
    strip.set_credentials(credentials);
    let mut edits = FieldEdits { strip, ..FieldEdits::default() };
    if let Some(identity) = identity {
        set_identity_headers(&mut edits, identity);
    }
    edits
}

/// Removes from a map what [`edit_identity`] without an identity removes. Cheaper than to make edits of it and apply them.
pub(super) fn strip_identity(fields: &mut HeaderMap, credentials: Option<&CredentialLocations>) {
    let is_listed = |name: &str| {
        is_possibly_listed(name)
            && (folds_to_prefix(name, IDENTITY_PREFIX) || (credentials.is_some() && is_credential(name)))
    };
    let others = credentials.map(CredentialLocations::other_fields).unwrap_or_default();
    let is_stripped = |name: &&HeaderName| {
        // The usual place of a credential: this comparison is cheaper than that of texts.
        if credentials.is_some() && **name == AUTHORIZATION {
            return true;
        }
        let name = name.as_str();
        is_listed(name) || others.iter().any(|listed| folds_to(name, listed))
    };
    let mut stripped = fields.keys().filter(is_stripped);
    // Most requests have one credential and nothing else that is removed.
    let first = stripped.next().cloned();
    let others: Vec<HeaderName> = stripped.cloned().collect();
    for name in first.iter().chain(&others) {
        fields.remove(name);
    }
}

/// The edits that turn an upstream's response head into what the client gets.
pub fn edit_response<F: Fields>(fields: &F, status: StatusCode, request_id: &HeaderValue) -> FieldEdits {
    // Only in these responses `Upgrade` is for the client: the switch was made, and the switch is required.
    let upgrade =
        matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED) && fields.has_field(&UPGRADE);
    let mut edits = FieldEdits { strip: Strip::hop_by_hop(fields, upgrade), ..FieldEdits::default() };
    if upgrade {
        edits.set_field(SetName::Connection, HeaderValue::from_static("upgrade"));
    }
    edits.set_field(SetName::RequestId, request_id.clone());
    edits
}

/// A client's address as the value of `X-Forwarded-For`. The same for all requests of a connection.
pub fn forwarded_for(client_ip: IpAddr) -> HeaderValue {
    value_of(client_ip.to_canonical().to_string())
}

/// The value for bytes that were encoded for a field before; shared, not copied.
fn shared_value(encoded: &Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(encoded.clone()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The value for text that contains only legal characters, without another copy.
pub(super) fn value_of(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn set_identity_headers(edits: &mut FieldEdits, identity: IdentityHeaders) {
    edits.set_some(SetName::KeyId, identity.key_id);
    edits.set_some(SetName::ActorId, identity.actor_id);
    edits.set_some(SetName::TenantId, identity.tenant_id);
    edits.set_some(SetName::Scopes, identity.scopes);
    edits.set_some(SetName::CredentialType, identity.credential_type);
}

/// Whether a response switches to a protocol that the request with these fields did not ask for.
pub fn is_unasked_upgrade<F: Fields>(request_fields: &F, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS && !requests_upgrade(request_fields)
}

/// Whether the client accepts trailers (RFC 9110 section 10.1.4).
pub fn accepts_trailers<F: Fields>(fields: &F) -> bool {
    fields.has_field(&TE) && list(fields, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// Whether the client requests an upgrade, and only to a protocol that is allowed.
pub fn requests_upgrade<F: Fields>(fields: &F) -> bool {
    if !fields.has_field(&UPGRADE) {
        return false;
    }
    let is_allowed = |protocol: &str| protocol.eq_ignore_ascii_case(ALLOWED_UPGRADE);
    let is_readable = fields.field_values(&UPGRADE).all(|value| text(value).is_some());
    is_readable
        && list(fields, &UPGRADE).map(is_allowed).reduce(|one, other| one && other) == Some(true)
        && list(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// The members of a list field.
fn list<'f, F: Fields>(fields: &'f F, name: &'f HeaderName) -> impl Iterator<Item = &'f str> {
    let values = fields.field_values(name).filter_map(text);
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

/// The requested host as a value: usually that of the `Host` field, else a new one. `None` if the client named no host.
fn forwarded_host<F: Fields>(fields: &F, host: &str) -> Option<HeaderValue> {
    match fields.first_value(&HOST) {
        _ if host.is_empty() => None,
        Some(value) if value == host && !host.as_bytes().contains(&b'\t') => Some(value),
        _ => Some(host_value(host)),
    }
}

/// The value for a host, percent-encoded where a field value cannot hold it.
pub(super) fn host_value(host: &str) -> HeaderValue {
    match HeaderValue::from_str(host) {
        Ok(value) if !host.as_bytes().contains(&b'\t') => value,
        _ => value_of(encode_text(host).into_owned()),
    }
}

#[cfg(test)]
mod tests;
