//! Claims of derived tokens (contract, credentials section 6): one JSON object, serialized with sorted members.

use serde_json::{Map, Value};

use crate::strict_json::Strict;

/// Claim names that custom claims cannot use, because Keygate interprets them.
const RESERVED: [&str; 17] = [
    "jti", "sub", "iss", "aud", "iat", "exp", "nbf", "nid", "akid", "pid", "tty", "oid", "scp", "scope", "meta", "vis",
    "acl",
];

/// The members by which a further caveat of a macaroon restricts the token. `scope` is the older name of `scp`.
const RESTRICTING: [&str; 7] = ["iss", "exp", "nbf", "scp", "scope", "acl", "aud"];

/// The claims of a token. Times are in whole seconds since 1970; an absent claim is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Claims {
    pub(super) jti: Option<String>,
    pub(super) sub: Option<String>,
    pub(super) iss: Option<String>,
    pub(super) iat: Option<i64>,
    pub(super) nbf: Option<i64>,
    pub(super) exp: Option<i64>,
    pub(super) nid: Option<String>,
    pub(super) vis: Option<String>,
    pub(super) act: Option<String>,
    pub(super) scp: Option<Vec<String>>,
    pub(super) acl: Option<Vec<String>>,
    pub(super) aud: Option<Vec<String>>,
    pub(super) meta: Option<Map<String, Value>>,
    /// Only in tokens of older versions.
    pub(super) akid: Option<String>,
    /// Only in tokens of older versions.
    pub(super) tty: Option<String>,
    /// Custom claims: all other members.
    pub(super) custom: Map<String, Value>,
}

/// The custom claims without the reserved ones, which are dropped silently. `act` is dropped too: a token of a parent
/// without an actor must not get one.
pub(super) fn without_reserved(custom: &Map<String, Value>) -> Map<String, Value> {
    let kept = custom.iter().filter(|(name, _)| *name != "act" && !RESERVED.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Claims {
    /// Parses a JSON object; `None` for other input, for a duplicate member, or if a known claim has the wrong type.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        Self::read(members(json)?)
    }

    /// As [`Claims::parse`], for a caveat that was added to a macaroon. Its author meant every member as a restriction, so `None` for a
    /// member that does not restrict the token here.
    pub(super) fn parse_restriction(json: &[u8]) -> Option<Self> {
        let members = members(json)?;
        let is_ambiguous = members.contains_key("scp") && members.contains_key("scope");
        let is_understood = members.keys().all(|name| RESTRICTING.contains(&name.as_str()));
        if is_understood && !is_ambiguous { Self::read(members) } else { None }
    }

    fn read(mut members: Map<String, Value>) -> Option<Self> {
        let claims = Self {
            jti: text(&mut members, "jti")?,
            sub: text(&mut members, "sub")?,
            iss: text(&mut members, "iss")?,
            iat: seconds(&mut members, "iat", f64::ceil)?,
            nbf: seconds(&mut members, "nbf", f64::ceil)?,
            exp: seconds(&mut members, "exp", f64::floor)?,
            nid: text(&mut members, "nid")?,
            vis: text(&mut members, "vis")?,
            act: text(&mut members, "act")?,
            scp: scopes(&mut members)?,
            acl: list(&mut members, "acl")?,
            aud: audiences(&mut members)?,
            meta: object(&mut members)?,
            akid: text(&mut members, "akid")?,
            tty: text(&mut members, "tty")?,
            custom: without_reserved(&members),
        };
        Some(claims)
    }

    /// Serializes to compact JSON with members sorted at every level and no HTML escaping.
    pub(super) fn to_json(&self) -> String {
        let mut members = self.custom.clone();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        };
        set("jti", self.jti.clone().map(Value::from));
        set("sub", self.sub.clone().map(Value::from));
        set("iss", self.iss.clone().map(Value::from));
        set("iat", self.iat.map(Value::from));
        set("nbf", self.nbf.map(Value::from));
        set("exp", self.exp.map(Value::from));
        set("nid", self.nid.clone().map(Value::from));
        set("vis", self.vis.clone().map(Value::from));
        set("act", self.act.clone().map(Value::from));
        set("scp", self.scp.clone().map(Value::from));
        set("acl", self.acl.clone().map(Value::from));
        set("aud", self.aud.clone().map(Value::from));
        set("meta", self.meta.clone().map(Value::from));
        set("akid", self.akid.clone().map(Value::from));
        set("tty", self.tty.clone().map(Value::from));
        sorted(Value::Object(members)).to_string()
    }
}

/// The members of a JSON object without duplicates.
fn members(json: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(json) {
        Ok(Strict(Value::Object(members))) => Some(members),
        _ => None,
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        scalar => scalar,
    }
}

// In the functions below the outer `None` stands for a claim of the wrong type, the inner one for an absent claim.

#[expect(clippy::option_option, reason = "malformed and absent are distinct")]
fn text(members: &mut Map<String, Value>, name: &str) -> Option<Option<String>> {
    match members.remove(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text)),
        Some(_) => None,
    }
}

/// Whole seconds; `round` rounds a fraction to the more restrictive second.
#[expect(clippy::option_option, reason = "malformed and absent are distinct")]
fn seconds(members: &mut Map<String, Value>, name: &str, round: fn(f64) -> f64) -> Option<Option<i64>> {
    match members.remove(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::Number(number)) => {
            let rounded = || format!("{:.0}", round(number.as_f64()?)).parse().ok();
            number.as_i64().or_else(rounded).map(Some)
        }
        Some(_) => None,
    }
}

#[expect(clippy::option_option, reason = "malformed and absent are distinct")]
fn list(members: &mut Map<String, Value>, name: &str) -> Option<Option<Vec<String>>> {
    match members.remove(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::Array(items)) => {
            items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Some)
        }
        Some(_) => None,
    }
}

/// `scp`, or its older name `scope`.
#[expect(clippy::option_option, reason = "malformed and absent are distinct")]
fn scopes(members: &mut Map<String, Value>) -> Option<Option<Vec<String>>> {
    let older = list(members, "scope");
    match list(members, "scp")? {
        Some(scopes) => Some(Some(scopes)),
        None => older,
    }
}

/// `aud`: one audience or a list (RFC 7519 section 4.1.3).
#[expect(clippy::option_option, reason = "malformed and absent are distinct")]
fn audiences(members: &mut Map<String, Value>) -> Option<Option<Vec<String>>> {
    match members.get("aud") {
        Some(Value::String(_)) => text(members, "aud").map(|audience| audience.map(|audience| vec![audience])),
        _ => list(members, "aud"),
    }
}

#[expect(clippy::option_option, reason = "malformed and absent are distinct")]
fn object(members: &mut Map<String, Value>) -> Option<Option<Map<String, Value>>> {
    match members.remove("meta") {
        None | Some(Value::Null) => Some(None),
        Some(Value::Object(object)) => Some(Some(object)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_sorted_and_round_trip() {
        let claims = Claims {
            sub: Some("s".into()),
            exp: Some(7),
            aud: Some(vec!["a".into()]),
            meta: json!({"z": 1, "a": {"y": [1], "b": "<&>"}}).as_object().cloned(),
            custom: json!({"x": true, "b": null}).as_object().cloned().unwrap_or_default(),
            ..Claims::default()
        };
        let text = claims.to_json();
        assert_eq!(text, r#"{"aud":["a"],"b":null,"exp":7,"meta":{"a":{"b":"<&>","y":[1]},"z":1},"sub":"s","x":true}"#);
        assert_eq!(Claims::parse(text.as_bytes()), Some(claims));
    }

    #[test]
    fn older_claim_names_are_parsed() {
        let claims = Claims::parse(br#"{"scope":["a"],"aud":"x","tty":"derived","akid":"k","pid":"p"}"#).unwrap();
        assert_eq!((claims.scp, claims.aud), (Some(vec!["a".into()]), Some(vec!["x".into()])));
        assert_eq!((claims.tty.as_deref(), claims.akid.as_deref()), (Some("derived"), Some("k")));
        let both = Claims::parse(br#"{"scope":["a"],"scp":["b"]}"#).unwrap();
        assert_eq!(both.scp, Some(vec!["b".into()]));
        let text = Claims::parse(br#"{"scope":"a b"}"#);
        assert_eq!(text, None);
    }

    #[test]
    fn fractional_times_are_rounded_to_the_more_restrictive_second() {
        let claims = Claims::parse(br#"{"exp":7.9,"nbf":7.1}"#).unwrap();
        assert_eq!((claims.exp, claims.nbf), (Some(7), Some(8)));
    }

    #[test]
    fn claims_of_the_wrong_type_are_rejected() {
        for text in [
            "[]",
            "{",
            r#"{"exp":7,"exp":7}"#,
            r#"{"meta":{"a":1,"a":1}}"#,
            r#"{"exp":"7"}"#,
            r#"{"exp":1e300}"#,
            r#"{"scp":"a"}"#,
            r#"{"acl":[1]}"#,
            r#"{"meta":[]}"#,
        ] {
            assert_eq!(Claims::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn restriction_has_no_member_that_does_not_restrict() {
        let understood = br#"{"iss":"i","exp":1,"nbf":0,"scp":[],"acl":[],"aud":"a"}"#;
        assert_eq!(Claims::parse_restriction(understood), Claims::parse(understood));
        let names = RESERVED.iter().chain(&["act", "method", "ISS", ""]).filter(|name| !RESTRICTING.contains(name));
        for name in names {
            let text = json!({"iss": "i", *name: null}).to_string();
            assert!(Claims::parse(text.as_bytes()).is_some());
            assert_eq!(Claims::parse_restriction(text.as_bytes()), None, "{name}");
        }
        assert_eq!(Claims::parse_restriction(br#"{"iss":"i","scp":["a"],"scope":["b"]}"#), None);
    }

    #[test]
    fn reserved_claims_are_dropped() {
        let requested: Map<_, _> =
            RESERVED.iter().chain(&["act", "mine"]).map(|name| ((*name).into(), json!(1))).collect();
        assert_eq!(Value::Object(without_reserved(&requested)), json!({"mine": 1}));
    }
}
