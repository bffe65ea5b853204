"""The table of values in the README of the chart, from values.yaml and values.schema.json."""

import json

START, END = "<!-- values -->\n", "<!-- end of values -->\n"


def rows(values, schema, prefix=""):
    """Path, default and description of each value. A section without properties of its own in the schema is one value."""
    found = []
    for name, value in values.items():
        part = schema["properties"][name]
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and "properties" in part:
            found += rows(value, part, f"{path}.")
        else:
            found.append((path, value, part.get("description", "")))
    return found


def secret_rows(table, schema):
    """One row for the three values of each secret, with the description of the secret."""
    merged = []
    for path, value, text in table:
        section, _, name = path.partition(".")
        if section != "secrets":
            merged.append((path, value, text))
            continue
        secret, _, name = name.partition(".")
        if name == "key":
            description = schema["properties"]["secrets"]["properties"][secret]["description"]
            merged.append((f"secrets.{secret}", {"key": value}, description))
    return merged


def readme(values, schema, text):
    """The README with the table between its marks."""
    lines = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, value, description in secret_rows(rows(values, schema), schema):
        lines.append(f"| `{path}` | `{json.dumps(value)}` | {description.replace('|', chr(92) + '|')} |")
    before, rest = text.split(START)
    return before + START + "\n" + "\n".join(lines) + "\n\n" + END + rest.split(END)[1]
