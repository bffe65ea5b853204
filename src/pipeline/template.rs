//! The values of variables in header rules and redirects, and the texts that templates make of them.

use std::cell::OnceCell;
use std::net::IpAddr;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::head::Target;
use super::headers::value_of;
use super::host::normal_host;
use crate::config::{Template, TemplatePart, Variable};
use crate::id::RequestId;
use crate::key::{Metadata, encode_text, encode_words};
use crate::verifier::Verdict;

/// All characters that are not unreserved (RFC 3986 section 2.3): a value cannot leave its place in a URL.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The characters that no URL contains. The percent sign stays: the value is a part of a URL already.
const URL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// What the variables stand for in one request.
pub(super) struct Values<'e> {
    pub(super) verdict: Option<&'e Verdict>,
    pub(super) request_id: &'e RequestId,
    pub(super) client_ip: Option<IpAddr>,
    pub(super) target: Option<&'e Target>,
    /// The alternative names in the client's certificate.
    pub(super) san: &'e [Box<str>],
    /// Parsed when a variable needs it.
    pub(super) metadata: OnceCell<Metadata>,
}

/// A value before it is encoded.
enum RawValue<'e> {
    /// Any text.
    Text(String),
    /// A part of a URL.
    Url(&'e str),
    /// Words, each any text.
    Words(&'e [Box<str>]),
}

/// The text as a field value, encoded as the identity headers are. `None` if a variable has no value, or the field would be empty.
pub(super) fn field_value(template: &Template, values: &Values<'_>) -> Option<HeaderValue> {
    let mut text = String::new();
    for part in template.parts() {
        match part {
            TemplatePart::Text(literal) => text.push_str(literal),
            TemplatePart::Variable(variable) => match values.get(variable)? {
                RawValue::Text(value) => text.push_str(&encode_text(&value)),
                RawValue::Url(value) => text.extend(utf8_percent_encode(value, URL)),
                RawValue::Words(words) => text.push_str(&encode_words(words.iter().map(|word| &**word))),
            },
        }
    }
    if text.is_empty() { None } else { Some(value_of(text)) }
}

/// The text as a URL. A variable without a value is empty. Only `request.path` and `request.query` can contain delimiters.
pub(super) fn url_value(template: &Template, values: &Values<'_>) -> HeaderValue {
    let mut text = String::new();
    for part in template.parts() {
        match part {
            TemplatePart::Text(literal) => text.push_str(literal),
            TemplatePart::Variable(variable) => match values.get(variable) {
                Some(RawValue::Text(value)) => text.extend(utf8_percent_encode(&value, COMPONENT)),
                Some(RawValue::Url(value)) => text.extend(utf8_percent_encode(value, URL)),
                Some(RawValue::Words(words)) => text.extend(utf8_percent_encode(&words.join(" "), COMPONENT)),
                None => {}
            },
        }
    }
    value_of(text)
}

impl<'e> Values<'e> {
    /// The value of a variable; `None` if it has none in this request.
    fn get(&self, variable: &Variable) -> Option<RawValue<'e>> {
        let text = |text: String| if text.is_empty() { None } else { Some(RawValue::Text(text)) };
        match variable {
            Variable::KeyId => text(self.verdict?.key_id().to_string()),
            Variable::KeyActor => text(self.verdict?.actor_id().to_owned()),
            Variable::KeyMetadata(name) => text(self.metadata_entry(name)?),
            Variable::RequestId => text(self.request_id.as_str().to_owned()),
            Variable::RequestHost => text(normal_host(self.target?.host())?.into_owned()),
            Variable::RequestPath => Some(RawValue::Url(self.target?.path())),
            Variable::RequestQuery => {
                let target = self.target?;
                Some(RawValue::Url(&target.path_and_query()[target.path().len()..]))
            }
            Variable::ClientAddress => text(self.client_ip?.to_string()),
            Variable::ClientSan => (!self.san.is_empty()).then_some(RawValue::Words(self.san)),
        }
    }

    /// An entry of the metadata: a text as it is, other values as JSON.
    fn metadata_entry(&self, name: &str) -> Option<String> {
        let verdict = self.verdict?;
        match self.metadata.get_or_init(|| verdict.metadata()).get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::path::NormalPath;

    fn with_values<T>(san: &[Box<str>], use_values: impl FnOnce(&Values<'_>) -> T) -> T {
        let target = Target::new("API.example.com:80", &NormalPath::parse("/a b/%41").unwrap(), Some("x=é&\"{%20"));
        let request_id = RequestId::sane("r-1").unwrap();
        use_values(&Values {
            verdict: None,
            request_id: &request_id,
            client_ip: "192.0.2.1".parse().ok(),
            target: Some(&target),
            san,
            metadata: OnceCell::from(Metadata::new()),
        })
    }

    fn field(template: &str, san: &[&str]) -> Option<String> {
        let san: Vec<Box<str>> = san.iter().map(|name| Box::from(*name)).collect();
        let template = Template::parse(template).unwrap();
        with_values(&san, |values| field_value(&template, values)).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn field_values_are_encoded() {
        for (template, value) in [
            ("plain", Some("plain")),
            ("", None),
            ("id ${request.id} from ${client.address}", Some("id r-1 from 192.0.2.1")),
            ("${request.host}${request.path}${request.query}", Some("api.example.com/a%20b/A?x=%C3%A9&%22%7B%20")),
            ("${tls.client.san}", Some("URI:a%20b DNS:%0D%0Ax%25")),
            ("${key.id}", None),
            ("key ${key.actor}", None),
            ("${key.metadata.a}", None),
        ] {
            assert_eq!(field(template, &["URI:a b", "DNS:\r\nx%"]).as_deref(), value, "{template}");
        }
        assert_eq!(field("${tls.client.san}", &[]), None);
    }

    #[test]
    fn values_stay_in_their_place_in_a_url() {
        let san = [Box::from("URI:a/../?b#c d")];
        for (template, url) in [
            ("https://new${request.path}${request.query}", "https://new/a%20b/A?x=%C3%A9&%22%7B%20"),
            ("https://${request.host}/", "https://api.example.com/"),
            ("/x/${tls.client.san}/", "/x/URI%3Aa%2F..%2F%3Fb%23c%20d/"),
            ("/x/${key.actor}", "/x/"),
        ] {
            let template = Template::parse(template).unwrap();
            assert_eq!(with_values(&san, |values| url_value(&template, values)), url);
        }
    }
}
