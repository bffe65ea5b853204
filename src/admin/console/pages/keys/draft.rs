//! The fields that the forms of keys have in common, and the messages of the API that they make.

use serde_json::{Map, Value, json};

use crate::admin::console::fields::Fields;
use crate::admin::console::model::Key;

/// The fields of a key that can be changed.
pub(super) const CHANGEABLE: [&str; 6] = ["name", "scopes", "quota", "window", "networks", "metadata"];

/// The fields of a key, as a form shows them.
pub(super) fn fields_of(key: &Key) -> Fields {
    let mut fields = Fields::default();
    fields.set("name", &key.name);
    fields.set("scopes", key.scopes.join("\n"));
    if let Some(limit) = &key.rate_limit_policy {
        fields.set("quota", &limit.quota);
        fields.set("window", limit.window.trim_end_matches('s'));
    }
    fields.set("networks", key.networks().join("\n"));
    if let Some(metadata) = key.metadata.as_ref().filter(|metadata| !metadata.is_empty()) {
        fields.set("metadata", format!("{:#}", json!(metadata)));
    }
    fields
}

/// The members of a message with the fields that can be changed.
///
/// # Errors
/// What is wrong.
pub(super) fn members(fields: &Fields) -> Result<Map<String, Value>, String> {
    let mut members = Map::new();
    members.insert("name".into(), fields.text("name").into());
    members.insert("scopes".into(), fields.lines("scopes").into());
    members.insert("metadata".into(), metadata(fields.text("metadata"))?);
    members.insert("rate_limit_policy".into(), rate_limit(fields)?);
    members.insert("ip_restriction".into(), networks(fields));
    Ok(members)
}

fn metadata(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(Value::Object(members)),
        Ok(_) => Err("Metadata must be a JSON object, for example {\"team\": \"search\"}.".to_owned()),
        Err(error) => Err(format!("Metadata is not valid JSON: line {}, column {}.", error.line(), error.column())),
    }
}

fn rate_limit(fields: &Fields) -> Result<Value, String> {
    match (fields.text("quota"), fields.text("window")) {
        ("", "") => Ok(Value::Null),
        (quota, window) => {
            let is_number = |text: &str| text.parse::<u64>().is_ok_and(|number| number > 0);
            if is_number(quota) && is_number(window) {
                Ok(json!({"quota": quota, "unit": "requests", "window": format!("{window}s")}))
            } else {
                Err("A rate limit has a number of requests and a number of seconds, both greater than 0. Leave both empty for no limit."
                    .to_owned())
            }
        }
    }
}

fn networks(fields: &Fields) -> Value {
    let networks = fields.lines("networks").into_iter().map(|network| match network.parse() {
        // A single address is a range of one.
        Ok(std::net::IpAddr::V4(address)) => format!("{address}/32"),
        Ok(std::net::IpAddr::V6(address)) => format!("{address}/128"),
        Err(_) => network,
    });
    let networks: Vec<_> = networks.collect();
    if networks.is_empty() { Value::Null } else { json!({"allowed_cidrs": networks}) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_the_members_of_a_message() {
        let fields = Fields::parse(
            b"name=+n+&scopes=a%0D%0Ab&quota=100&window=60&networks=10.0.0.0%2F8%0A192.0.2.1%0A2001:db8::1&metadata=%7B%22a%22:1%7D",
        );
        let expected = json!({
            "name": "n", "scopes": ["a", "b"], "metadata": {"a": 1},
            "rate_limit_policy": {"quota": "100", "unit": "requests", "window": "60s"},
            "ip_restriction": {"allowed_cidrs": ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128"]},
        });
        assert_eq!(Value::Object(members(&fields).unwrap()), expected);
        let empty = members(&Fields::default()).unwrap();
        assert_eq!((&empty["rate_limit_policy"], &empty["ip_restriction"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn incomplete_limits_and_invalid_metadata_are_errors() {
        for text in ["quota=1", "window=1", "quota=0&window=1", "quota=x&window=1", "metadata=1", "metadata=%7B"] {
            assert!(members(&Fields::parse(text.as_bytes())).is_err(), "{text}");
        }
    }
}
