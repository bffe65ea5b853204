//! What of a request's head reaches the upstream, and what of an answer's head reaches the client.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::verifier::Verdict;
use crate::wire::extract::X_API_KEY;
use crate::wire::problem::X_REQUEST_ID;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEY_ID: HeaderName = HeaderName::from_static("x-keygate-key-id");
const ACTOR_ID: HeaderName = HeaderName::from_static("x-keygate-actor-id");
const TENANT_ID: HeaderName = HeaderName::from_static("x-keygate-tenant-id");
const SCOPES: HeaderName = HeaderName::from_static("x-keygate-scopes");
const CREDENTIAL_TYPE: HeaderName = HeaderName::from_static("x-keygate-credential-type");

/// Fields by which a client could pretend to be somebody, somewhere, or another request.
const PRETENCES: [&str; 8] = [
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
];
const PRETENCE_PREFIXES: [&str; 2] = ["x-keygate-", "x-forwarded-"];

/// Fields for one connection only (RFC 9110 section 7.6.1). `Transfer-Encoding` is the proxy's own to frame with.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER];

/// Fields that a `Connection` field cannot take out: without them the message is another one.
const ESSENTIAL: [&str; 5] = ["host", "content-length", "transfer-encoding", "upgrade", "connection"];

/// A space is legal in a value and a percent sign must stay readable as itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Who asks, and how: what the edits depend on beside the fields themselves.
#[derive(Debug)]
pub struct Hop<'a> {
    /// The decision, if a credential was judged.
    pub verdict: Option<&'a Verdict>,
    /// Whether the credential is ours; on routes that look for none it is the upstream's.
    pub takes_credential: bool,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// How the client reached us.
    pub proto: &'static str,
    /// The request's id.
    pub request_id: &'a str,
    /// The `Host` that the upstream is to see.
    pub upstream_host: HeaderValue,
}

/// Fields of a message, however a server keeps them.
pub trait Fields {
    /// The fields.
    fn map(&self) -> &HeaderMap;
    /// Sets a field, in place of all of that name.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Takes out all fields of a name.
    fn take_out(&mut self, name: &HeaderName);
}

impl Fields for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn take_out(&mut self, name: &HeaderName) {
        self.remove(name);
    }
}

/// Makes a client's fields into what the upstream sees.
pub fn edit_request(fields: &mut impl Fields, hop: &Hop<'_>) {
    let client_host = fields.map().get(HOST).cloned();
    let upgrade = is_upgrade(fields.map());
    for name in unwanted(fields.map(), hop.takes_credential) {
        fields.take_out(&name);
    }
    take_out_hop_by_hop(fields, upgrade);
    fields.set(HOST, hop.upstream_host.clone());
    if let Some(host) = client_host {
        fields.set(X_FORWARDED_HOST, host);
    }
    if let Some(peer) = hop.peer {
        fields.set(X_FORWARDED_FOR, value(&peer.to_canonical().to_string()));
    }
    fields.set(X_FORWARDED_PROTO, HeaderValue::from_static(hop.proto));
    fields.set(X_REQUEST_ID, value(hop.request_id));
    if let Some(verdict) = hop.verdict {
        introduce(fields, verdict);
    }
}

/// Makes an upstream's fields into what the client sees.
pub fn edit_response(fields: &mut impl Fields, request_id: &str) {
    let upgrade = is_upgrade(fields.map());
    take_out_hop_by_hop(fields, upgrade);
    fields.set(X_REQUEST_ID, value(request_id));
}

fn introduce(fields: &mut impl Fields, verdict: &Verdict) {
    fields.set(KEY_ID, value(&verdict.key_id().to_string()));
    fields.set(ACTOR_ID, value(verdict.actor_id()));
    fields.set(TENANT_ID, value(&verdict.tenant().to_string()));
    fields.set(SCOPES, value(&verdict.scopes().as_slice().join(" ")));
    fields.set(CREDENTIAL_TYPE, HeaderValue::from_static(verdict.kind().name()));
}

fn unwanted(fields: &HeaderMap, takes_credential: bool) -> Vec<HeaderName> {
    let credential = |name: &HeaderName| name == AUTHORIZATION || name == X_API_KEY;
    fields.keys().filter(|name| pretends(name) || (takes_credential && credential(name))).cloned().collect()
}

/// Upstreams in the manner of CGI take `_` and `-` in names for the same, so both are.
fn pretends(name: &HeaderName) -> bool {
    let folded;
    let text = if name.as_str().contains('_') {
        folded = name.as_str().replace('_', "-");
        folded.as_str()
    } else {
        name.as_str()
    };
    name == FORWARDED || PRETENCE_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) || PRETENCES.contains(&text)
}

fn is_upgrade(fields: &HeaderMap) -> bool {
    fields.contains_key(UPGRADE) && connection_options(fields).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

fn connection_options(fields: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|option| !option.is_empty())
}

fn take_out_hop_by_hop(fields: &mut impl Fields, upgrade: bool) {
    let listed: Vec<HeaderName> = connection_options(fields.map())
        .filter(|option| !ESSENTIAL.iter().any(|name| name.eq_ignore_ascii_case(option)))
        .filter_map(|option| option.parse().ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        fields.take_out(name);
    }
    if upgrade {
        fields.set(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        fields.take_out(&UPGRADE);
    }
}

/// A field value for any text: what a value may not hold is percent-encoded, so nothing can be injected.
fn value(text: &str) -> HeaderValue {
    if let Ok(value) = HeaderValue::from_str(text)
        && text.is_ascii()
    {
        return value;
    }
    let encoded = utf8_percent_encode(text, ENCODED).to_string();
    HeaderValue::from_str(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(pairs: &[(&'static str, &'static str)], takes_credential: bool) -> HeaderMap {
        let mut fields: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let hop = Hop {
            verdict: None,
            takes_credential,
            peer: "::ffff:192.0.2.1".parse().ok(),
            proto: "http",
            request_id: "r-1",
            upstream_host: HeaderValue::from_static("upstream:9000"),
        };
        edit_request(&mut fields, &hop);
        fields
    }

    #[test]
    fn the_upstream_sees_who_really_asked() {
        let fields = edited(
            &[
                ("host", "api.example.com"),
                ("authorization", "Bearer k"),
                ("x-api-key", "k"),
                ("x-keygate-actor-id", "root"),
                ("x_keygate_actor_id", "root"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x_forwarded_host", "evil"),
                ("forwarded", "for=10.0.0.1"),
                ("x-real-ip", "10.0.0.1"),
                ("x-original-url", "/admin"),
                ("accept", "*/*"),
            ],
            true,
        );
        let shown: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(
            shown,
            [
                "host: upstream:9000",
                "accept: */*",
                "x-forwarded-host: api.example.com",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-proto: http",
                "x-request-id: r-1"
            ]
        );
    }

    #[test]
    fn a_credential_that_is_not_ours_is_left_alone() {
        let fields = edited(&[("authorization", "Bearer k"), ("x-keygate-key-id", "x")], false);
        assert!(fields.contains_key("authorization") && !fields.contains_key("x-keygate-key-id"));
    }

    #[test]
    fn fields_for_one_connection_go_no_further() {
        let fields = edited(
            &[
                ("connection", "keep-alive, X-Private, Host, Content-Length"),
                ("x-private", "1"),
                ("content-length", "3"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("proxy-authorization", "Basic x"),
                ("upgrade", "h2c"),
            ],
            true,
        );
        for gone in ["connection", "x-private", "keep-alive", "te", "proxy-authorization", "upgrade"] {
            assert!(!fields.contains_key(gone), "{gone}");
        }
        assert!(fields.contains_key("host") && fields.contains_key("content-length"));
    }

    #[test]
    fn an_upgrade_goes_through() {
        let fields = edited(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")], true);
        assert_eq!(fields["connection"], "upgrade");
        assert_eq!(fields["upgrade"], "websocket");
    }

    #[test]
    fn no_text_can_break_out_of_a_value() {
        assert_eq!(value("plain actor"), "plain actor");
        assert_eq!(value("a\r\nX-Evil: 1"), "a%0D%0AX-Evil: 1");
        assert_eq!(value("é%"), "%C3%A9%25");
    }
}
