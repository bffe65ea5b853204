//! Output of commands: data in the selected format on stdout. Everything else goes to stderr.

use std::io::{self, ErrorKind, Write};
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use serde_json_path::JsonPath;

/// Column widths are multiples of this, as with Go's tabwriter, which lists are compatible with.
const TAB: usize = 8;

/// Column headers and the JSON members that they show.
pub(super) type Columns = [(&'static str, &'static str)];

/// Output options.
#[derive(Debug, Args)]
pub(super) struct Output {
    /// table, json, json-pretty, yaml, jsonpath=PATH (for example $.secret) or jsonpointer=POINTER (for example /secret)
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Print only the first column
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Clone)]
enum Format {
    Table,
    Json,
    JsonPretty,
    Yaml,
    JsonPath(JsonPath),
    JsonPointer(String),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=').unwrap_or((text, "")) {
            ("table", "") => Ok(Self::Table),
            ("json", "") => Ok(Self::Json),
            ("json-pretty", "") => Ok(Self::JsonPretty),
            ("yaml", "") => Ok(Self::Yaml),
            ("jsonpath", path) if !path.is_empty() => json_path(path).map(Self::JsonPath),
            ("jsonpointer", pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                Ok(Self::JsonPointer(pointer.to_owned()))
            }
            ("jsonpointer", _) => Err("a JSON pointer starts with a slash, for example /secret".into()),
            _ => Err("use table, json, json-pretty, yaml, jsonpath=$.secret or jsonpointer=/secret".into()),
        }
    }
}

/// Parses an RFC 9535 path. The leading `$.` is optional.
fn json_path(text: &str) -> Result<JsonPath, String> {
    let path = if text.starts_with('$') { text.to_owned() } else { format!("$.{}", text.trim_start_matches('.')) };
    JsonPath::parse(&path).map_err(|error| format!("is not a JSON path: {error}; use for example $.secret"))
}

impl Output {
    /// Prints one object. The table format has one line per column.
    pub(super) fn row(&self, data: &Value, row: &Value, columns: &Columns) -> anyhow::Result<()> {
        let cells = cells(row, columns);
        if self.quiet {
            return print(&lines(&cells[..1]));
        }
        let table = || {
            let pairs = columns.iter().zip(&cells);
            lines(&pairs.map(|((header, _), cell)| format!("{header}\t{cell}")).collect::<Vec<_>>())
        };
        print(&self.format.text(data)?.unwrap_or_else(table))
    }

    /// Prints a list. The table format has a header line and one line per row.
    pub(super) fn list(&self, data: &Value, rows: &[Value], columns: &Columns) -> anyhow::Result<()> {
        let rows = || rows.iter().map(|row| cells(row, columns));
        if self.quiet {
            return print(&lines(&rows().map(|mut cells| cells.swap_remove(0)).collect::<Vec<_>>()));
        }
        let headers = columns.iter().map(|(header, _)| (*header).to_owned()).collect();
        let table = || aligned(&std::iter::once(headers).chain(rows()).collect::<Vec<_>>());
        print(&self.format.text(data)?.unwrap_or_else(table))
    }

    /// Prints one object in one line: its columns, separated by tabs, or the data in another format.
    pub(super) fn line(&self, row: &Value, columns: &Columns) -> anyhow::Result<()> {
        let cells = cells(row, columns);
        if self.quiet {
            return print(&lines(&cells[..1]));
        }
        print(&self.format.text(row)?.unwrap_or_else(|| format!("{}\n", cells.join("\t"))))
    }

    /// Prints data without columns. The table format prints nothing.
    pub(super) fn data(&self, data: &Value) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { self.format.text(data)?.map_or(Ok(()), |text| print(&text)) }
    }
}

impl Format {
    /// Formats the data; `None` for a table.
    fn text(&self, data: &Value) -> anyhow::Result<Option<String>> {
        Ok(Some(match self {
            Self::Table => return Ok(None),
            Self::Json => format!("{data}\n"),
            Self::JsonPretty => pretty(data),
            Self::Yaml => serde_saphyr::to_string(data).context("cannot convert the response to YAML")?,
            Self::JsonPath(path) => path.query(data).iter().map(|node| unquoted(node)).collect(),
            Self::JsonPointer(pointer) => {
                unquoted(data.pointer(pointer).with_context(|| format!("the response has no value at {pointer}"))?)
            }
        }))
    }
}

/// Formats indented JSON.
pub(super) fn pretty(data: &Value) -> String {
    format!("{data:#}\n")
}

/// Formats a string without quotes, for use in a shell, and any other value as JSON.
fn unquoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text}\n"),
        other => format!("{other}\n"),
    }
}

fn lines(texts: &[String]) -> String {
    texts.iter().flat_map(|text| [text, "\n"]).collect()
}

fn cells(row: &Value, columns: &Columns) -> Vec<String> {
    columns.iter().map(|(_, member)| cell(row.get(member).unwrap_or(&Value::Null))).collect()
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    // Control characters in a name must not inject terminal escape sequences or line breaks.
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
        escaped
    })
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0) + 1;
    let widths: Vec<usize> = (0..columns).map(|column| width(column).next_multiple_of(TAB)).collect();
    let mut text = String::new();
    for cells in lines {
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&"\t".repeat((width - cell.chars().count()).div_ceil(TAB)));
        }
        text.truncate(text.trim_end_matches('\t').len());
        text.push('\n');
    }
    text
}

/// Writes to stdout. A closed pipe is not an error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(format: &str, data: &Value) -> Result<String, String> {
        let format: Format = format.parse()?;
        format.text(data).map(Option::unwrap_or_default).map_err(|error| error.to_string())
    }

    #[test]
    fn data_is_printed_in_every_format() {
        let data = json!({"secret": "s", "keys": [{"id": 1}, {"id": 2}], "big": 9_007_199_254_740_993_i64});
        for (format, expected) in [
            ("json", "{\"secret\":\"s\",\"keys\":[{\"id\":1},{\"id\":2}],\"big\":9007199254740993}\n"),
            ("table", ""),
            ("jsonpath=$.secret", "s\n"),
            ("jsonpath=secret", "s\n"),
            ("jsonpath=.keys[*].id", "1\n2\n"),
            ("jsonpath=$.keys[?@.id > 1]", "{\"id\":2}\n"),
            ("jsonpath=$.none", ""),
            ("jsonpointer=/keys/1/id", "2\n"),
            ("jsonpointer=/secret", "s\n"),
        ] {
            assert_eq!(text(format, &data).as_deref(), Ok(expected), "{format}");
        }
        assert_eq!(text("json-pretty", &json!({"a": [1]})).unwrap(), "{\n  \"a\": [\n    1\n  ]\n}\n");
        assert_eq!(text("jsonpointer=/none", &data), Err("the response has no value at /none".into()));
        for invalid in ["", "xml", "json=x", "jsonpath=", "jsonpath=$[", "jsonpath", "jsonpointer=secret"] {
            assert!(text(invalid, &data).is_err(), "{invalid}");
        }
    }

    #[test]
    fn yaml_parses_to_the_same_data_as_json() {
        let data = json!({
            "texts": ["true", "null", "1", "1e3", "~", "no", "", "a: b", "- x", "# c", "line\nline", "tab\t", "é", "2020-01-01"],
            "values": [true, null, 1, -1.5, 9_007_199_254_740_993_i64, {}, []],
            "yes": {"deep": [[1], {"a": "b"}]},
        });
        let yaml = text("yaml", &data).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), data, "{yaml}");
        assert!(yaml.ends_with('\n') && !yaml.ends_with("\n\n"), "{yaml}");
    }

    #[test]
    fn control_characters_in_cells_are_escaped() {
        let row = json!({"name": "a\n\u{1b}[31m\tb", "scopes": ["x", "y"], "valid": false, "none": null, "n": "7"});
        let columns = [("A", "name"), ("B", "scopes"), ("C", "valid"), ("D", "none"), ("E", "missing"), ("F", "n")];
        assert_eq!(cells(&row, &columns), ["a\\n\\u{1b}[31m\\tb", "x,y", "false", "", "", "7"]);
    }

    #[test]
    fn columns_are_aligned_with_tabs() {
        let lines = [["ID", "NAME", "END"], ["12345678", "n", ""], ["1", "longer than eight", "x"]];
        let lines: Vec<Vec<String>> = lines.map(|line| line.map(String::from).to_vec()).to_vec();
        assert_eq!(aligned(&lines), "ID\t\tNAME\t\t\tEND\n12345678\tn\n1\t\tlonger than eight\tx\n");
    }
}
