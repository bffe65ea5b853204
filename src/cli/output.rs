//! What commands print: data on stdout, in the form that was asked for, and nothing else there.

use std::io::{self, ErrorKind, Write};
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use serde_json_path::JsonPath;

/// Go's tabwriter, which the columns of lists are compatible with, fills up to a multiple of this.
const TAB: usize = 8;

/// Headers, and the members of a row that stand below them.
pub(super) type Columns = [(&'static str, &'static str)];

/// How data is printed.
#[derive(Debug, Args)]
pub(super) struct Output {
    /// table, json, json-pretty, yaml, jsonpath=PATH (such as $.secret) or jsonpointer=POINTER (such as /secret)
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Print the first column only
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
            ("jsonpointer", _) => Err("a JSON pointer begins with a slash, for example /secret".into()),
            _ => Err("write table, json, json-pretty, yaml, jsonpath=$.secret or jsonpointer=/secret".into()),
        }
    }
}

/// RFC 9535; the leading `$.` may be left out.
fn json_path(text: &str) -> Result<JsonPath, String> {
    let whole = if text.starts_with('$') { text.to_owned() } else { format!("$.{}", text.trim_start_matches('.')) };
    JsonPath::parse(&whole).map_err(|error| format!("is not a JSON path: {error}; write for example $.secret"))
}

impl Output {
    /// Prints one thing: as a table, a line for each column.
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

    /// Prints many things: as a table, a line of headers and a line for each thing.
    pub(super) fn list(&self, data: &Value, rows: &[Value], columns: &Columns) -> anyhow::Result<()> {
        let rows = || rows.iter().map(|row| cells(row, columns));
        if self.quiet {
            return print(&lines(&rows().map(|mut cells| cells.swap_remove(0)).collect::<Vec<_>>()));
        }
        let headers = columns.iter().map(|(header, _)| (*header).to_owned()).collect();
        let table = || aligned(&std::iter::once(headers).chain(rows()).collect::<Vec<_>>());
        print(&self.format.text(data)?.unwrap_or_else(table))
    }

    /// Prints data that has no columns: nothing as a table.
    pub(super) fn data(&self, data: &Value) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { self.format.text(data)?.map_or(Ok(()), |text| print(&text)) }
    }
}

impl Format {
    /// The data in this form; `None` for a table.
    fn text(&self, data: &Value) -> anyhow::Result<Option<String>> {
        Ok(Some(match self {
            Self::Table => return Ok(None),
            Self::Json => format!("{data}\n"),
            Self::JsonPretty => pretty(data),
            Self::Yaml => serde_saphyr::to_string(data).context("the answer cannot be written as YAML")?,
            Self::JsonPath(path) => path.query(data).iter().map(|found| bare(found)).collect(),
            Self::JsonPointer(pointer) => {
                bare(data.pointer(pointer).with_context(|| format!("the answer has nothing at {pointer}"))?)
            }
        }))
    }
}

/// Indented JSON.
pub(super) fn pretty(data: &Value) -> String {
    format!("{data:#}\n")
}

/// Texts without quotes, so that a shell can use them; all else as JSON.
fn bare(value: &Value) -> String {
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
    // A name must not move the cursor of whoever lists it, nor begin a line of its own.
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
        safe
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

/// Writes to stdout; a reader that has read enough is no failure.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("stdout cannot be written"),
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
    fn data_in_every_form() {
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
        assert_eq!(text("jsonpointer=/none", &data), Err("the answer has nothing at /none".into()));
        for bad in ["", "xml", "json=x", "jsonpath=", "jsonpath=$[", "jsonpath", "jsonpointer=secret"] {
            assert!(text(bad, &data).is_err(), "{bad}");
        }
    }

    #[test]
    fn yaml_means_what_the_json_means() {
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
    fn cells_hold_one_line_each() {
        let row = json!({"name": "a\n\u{1b}[31m\tb", "scopes": ["x", "y"], "valid": false, "none": null, "n": "7"});
        let columns = [("A", "name"), ("B", "scopes"), ("C", "valid"), ("D", "none"), ("E", "missing"), ("F", "n")];
        assert_eq!(cells(&row, &columns), ["a\\n\\u{1b}[31m\\tb", "x,y", "false", "", "", "7"]);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let lines = [["ID", "NAME", "END"], ["12345678", "n", ""], ["1", "longer than eight", "x"]];
        let lines: Vec<Vec<String>> = lines.map(|line| line.map(String::from).to_vec()).to_vec();
        assert_eq!(aligned(&lines), "ID\t\tNAME\t\t\tEND\n12345678\tn\n1\t\tlonger than eight\tx\n");
    }
}
