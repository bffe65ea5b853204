//! Header rules of routes.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::headers::FieldEdits;
use super::template::{Values, field_value};
use crate::config::{HeaderRulesConfig, Template, TemplatePart};

/// Changes to the fields of a head, after those of the pipeline itself.
#[derive(Debug)]
pub(super) struct HeaderRules {
    set: Vec<(HeaderName, RuleValue)>,
    add: Vec<(HeaderName, RuleValue)>,
    remove: Vec<HeaderName>,
}

/// A value of a rule.
#[derive(Debug)]
enum RuleValue {
    /// The same for all requests; `None` if it is empty.
    Fixed(Option<HeaderValue>),
    Template(Template),
}

impl HeaderRules {
    /// The rules of a validated configuration; `None` if there are none.
    pub(super) fn new(config: &HeaderRulesConfig) -> Option<Box<Self>> {
        let rules = |rules: &BTreeMap<String, String>| {
            let rule = |(name, value): (&String, &String)| Some((name.parse().ok()?, RuleValue::new(value)?));
            rules.iter().filter_map(rule).collect()
        };
        let remove = config.remove.iter().filter_map(|name| name.parse().ok()).collect();
        let this = Self { set: rules(&config.set), add: rules(&config.add), remove };
        (!config.is_empty()).then(|| Box::new(this))
    }

    /// Adds the rules to edits.
    pub(super) fn apply(&self, edits: &mut FieldEdits, values: &Values<'_>) {
        for name in &self.remove {
            edits.replace(name, None);
        }
        for (name, value) in &self.set {
            edits.replace(name, value.get(values));
        }
        for (name, value) in &self.add {
            edits.add(name, value.get(values));
        }
    }
}

impl RuleValue {
    fn new(text: &str) -> Option<Self> {
        let template = Template::parse(text).ok()?;
        Some(match template.parts() {
            [] => Self::Fixed(None),
            [TemplatePart::Text(text)] => Self::Fixed(HeaderValue::from_str(text).ok()),
            _ => Self::Template(template),
        })
    }

    fn get(&self, values: &Values<'_>) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Template(template) => field_value(template, values),
        }
    }
}
