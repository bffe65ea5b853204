//! Texts with variables, such as `key ${key.id}`.

/// A text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<TemplatePart>);

/// A part of a template with variables `V`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart<V = Variable> {
    /// Text that is the same for all requests.
    Text(Box<str>),
    /// The value of a variable.
    Variable(V),
}

/// A property of a request or of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `key.id`: id of the key; of the parent for a derived token.
    KeyId,
    /// `key.actor`: id of the actor that the key was issued to.
    KeyActor,
    /// `key.metadata.NAME`: an entry of the key's metadata, for a derived token also of its custom claims.
    KeyMetadata(Box<str>),
    /// `request.id`: id of the request.
    RequestId,
    /// `request.host`: requested host, in lower case, without the port.
    RequestHost,
    /// `request.path`: path as it is forwarded, after `strip_prefix` or `rewrite`.
    RequestPath,
    /// `request.query`: query with its question mark; empty if there is none.
    RequestQuery,
    /// `client.address`: address of the client.
    ClientAddress,
    /// `tls.client.san`: alternative names of the client's certificate, separated by spaces.
    ClientSan,
}

/// Why a text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No variable has this name.
    #[error(
        "has an unknown variable; use key.id, key.actor, key.metadata.NAME, request.id, request.host, request.path, request.query, client.address or tls.client.san, and $${{ for the text ${{"
    )]
    Unknown,
    /// A variable does not end.
    #[error("has ${{ without a closing brace; write $${{ for the text ${{")]
    Unclosed,
}

const METADATA: &str = "key.metadata.";

impl Template {
    /// Parses a text: `${NAME}` is a variable, `$${` is the text `${`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse_parts(text, Variable::parse).map(Self)
    }

    /// The parts. No two texts follow each other, and none is empty.
    pub fn parts(&self) -> &[TemplatePart] {
        &self.0
    }

    /// The texts.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            TemplatePart::Text(text) => Some(&**text),
            TemplatePart::Variable(_) => None,
        })
    }
}

/// The parts of a text: `${NAME}` is a variable, `$${` is the text `${`. `variable` reads a name. No two texts follow each other, and none is
/// empty.
pub(super) fn parse_parts<V>(
    text: &str,
    variable: impl Fn(&str) -> Option<V>,
) -> Result<Vec<TemplatePart<V>>, TemplateError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            literal.push_str(before);
            literal.push_str("${");
            rest = after;
            continue;
        }
        literal.push_str(before);
        let (name, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
        if !literal.is_empty() {
            parts.push(TemplatePart::Text(std::mem::take(&mut literal).into()));
        }
        parts.push(TemplatePart::Variable(variable(name).ok_or(TemplateError::Unknown)?));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(TemplatePart::Text(literal.into()));
    }
    Ok(parts)
}

impl Variable {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "key.id" => Self::KeyId,
            "key.actor" => Self::KeyActor,
            "request.id" => Self::RequestId,
            "request.host" => Self::RequestHost,
            "request.path" => Self::RequestPath,
            "request.query" => Self::RequestQuery,
            "client.address" => Self::ClientAddress,
            "tls.client.san" => Self::ClientSan,
            _ => Self::KeyMetadata(name.strip_prefix(METADATA).filter(|name| !name.is_empty())?.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let template = Template::parse(text).unwrap();
        let shown = template.parts().iter().map(|part| match part {
            TemplatePart::Text(text) => format!("[{text}]"),
            TemplatePart::Variable(variable) => format!("{variable:?}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn variables_and_texts_are_separated() {
        for (text, parts) in [
            ("", ""),
            ("plain", "[plain]"),
            ("${key.id}", "KeyId"),
            ("a${key.actor}b${request.id}${client.address}", "[a] KeyActor [b] RequestId ClientAddress"),
            ("${key.metadata.cost center}", r#"KeyMetadata("cost center")"#),
            ("${tls.client.san}$", "ClientSan [$]"),
            ("$5 {key.id} $${key.id} $$${x}", "[$5 {key.id} ${key.id} $${x}]"),
            ("${request.host}${request.path}${request.query}", "RequestHost RequestPath RequestQuery"),
        ] {
            assert_eq!(shown(text), parts, "{text}");
        }
    }

    #[test]
    fn unknown_and_unclosed_variables_are_errors() {
        for text in ["${}", "${key}", "${key.metadata.}", "${ key.id }", "${KEY.ID}", "a ${key.id} ${nope}"] {
            assert_eq!(Template::parse(text), Err(TemplateError::Unknown), "{text}");
        }
        for text in ["${", "${key.id", "$${ ${"] {
            assert_eq!(Template::parse(text), Err(TemplateError::Unclosed), "{text}");
        }
    }
}
