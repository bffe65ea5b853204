//! `docs/configuration-reference.md`: every setting, from the schema of the configuration and the rules of reloads.

use std::collections::BTreeMap;
use std::fmt::Write;

use keygate_test_servers::check_document;
use serde_json::Value;

use super::markdown::{anchor, code, head, row};
use super::schema::{is_required, kind, meaning};
use crate::config::{json_schema, members, needs_restart};

const INTRODUCTION: &str = "# Configuration reference

Every setting. This file is generated from the types of the configuration (`make documents`). How settings are written, which source has
precedence, and rules across settings: [configuration](configuration.md).

- Below the name of a setting is its environment variable. Settings inside of lists and mappings have none: the variable of the list or the
  mapping has all of it, as JSON or YAML. `[]` stands for each item of a list, `NAME` for each name of a mapping.
- A `duration` is written as `90s`, `1h30m` or `250ms`.
- `reload`: a change takes effect without a restart. `restart`: a warning names the setting until the process is started again
  ([operations](operations.md#what-is-reloaded)). Whether the sections `gateway` and `external_auth` exist is taken at the start.

";

/// A row of the reference.
struct Setting {
    /// The path as it is shown, such as `gateway.routes[].name`.
    path: String,
    /// The path with indexes, as the rules of reloads have it.
    indexed: String,
    kind: String,
    default: String,
    meaning: String,
    is_section: bool,
}

/// Adds the settings of an object, with those inside of its lists and mappings.
fn collect(schema: &Value, path: &str, indexed: &str, settings: &mut Vec<Setting>) {
    for (name, member) in members(schema).into_iter().flatten() {
        let join = |parent: &str| if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        let (path, indexed) = (join(path), join(indexed));
        let is_section = members(member).is_some();
        settings.push(Setting {
            kind: if is_section { "section".to_owned() } else { kind(member) },
            default: default(member, is_required(schema, name), is_section),
            meaning: meaning(member),
            path: path.clone(),
            indexed: indexed.clone(),
            is_section,
        });
        if is_section {
            collect(member, &path, &indexed, settings);
        }
        collect(&member["items"], &format!("{path}[]"), &format!("{indexed}.0"), settings);
        collect(&member["additionalProperties"], &format!("{path}.NAME"), &format!("{indexed}.NAME"), settings);
    }
}

fn default(schema: &Value, is_required: bool, is_section: bool) -> String {
    match schema.get("default") {
        _ if is_required => "required".to_owned(),
        Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "empty".to_owned(),
        Some(Value::String(text)) => code(text),
        Some(value) => code(&value.to_string()),
        None if is_section => String::new(),
        None => "none".to_owned(),
    }
}

impl Setting {
    /// The heading that it is under: its section, or the list or mapping of the gateway that it is in.
    fn heading(&self) -> String {
        let section = self.path.split('.').next().unwrap_or_default();
        let ends = ["[].", ".NAME."].iter().filter_map(|mark| self.path.find(mark).map(|at| at + mark.len() - 1));
        match ends.min() {
            Some(end) if section == "gateway" => self.path[..end].to_owned(),
            _ => section.trim_end_matches("[]").to_owned(),
        }
    }

    fn row(&self) -> String {
        let is_inside = self.path != self.indexed || self.path.contains("NAME");
        let variable = format!("KEYGATE_{}", self.path.replace('.', "_").to_uppercase());
        let mut name = code(&self.path);
        if !self.is_section && !is_inside {
            write!(name, "<br>{}", code(&variable)).unwrap();
        }
        let change = match (self.is_section, needs_restart(&self.indexed)) {
            (true, _) => "",
            (false, true) => "restart",
            (false, false) => "reload",
        };
        row(&[&name, &self.kind, &self.default, change, &self.meaning])
    }
}

fn document() -> String {
    let mut settings = Vec::new();
    collect(&json_schema(), "", "", &mut settings);
    assert!(settings.len() > 250, "{} settings", settings.len());
    let mut headings: Vec<String> = Vec::new();
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    for setting in &settings {
        let heading = setting.heading();
        if !headings.contains(&heading) {
            headings.push(heading.clone());
        }
        tables.entry(heading).or_default().push_str(&setting.row());
    }
    let mut text = INTRODUCTION.to_owned();
    let links: Vec<_> = headings.iter().map(|heading| format!("[{heading}](#{})", anchor(heading))).collect();
    writeln!(text, "{}", links.join(",\n")).unwrap();
    for heading in &headings {
        let head = head(&["setting", "type", "default", "change", "meaning"]);
        write!(text, "\n## {heading}\n\n{head}{}", tables[heading]).unwrap();
    }
    text
}

#[test]
fn generated_document_has_every_setting() {
    check_document("docs/configuration-reference.md", &document());
}
