//! `docs/metrics.md`, and the metrics in the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

/// The beginnings of names of metrics.
const PREFIXES: [&str; 4] = ["keygate_", "talos_", "http_", "process_"];

/// Labels with such a beginning.
const LABELS: [&str; 3] = ["http_request_method", "http_response_status_code", "http_route"];

const HEAD: &str = "# Metrics

`GET /metrics` of the listener `serve.metrics` returns all metrics in the text format of Prometheus. This list is generated (`make documents`);
a test compares it with what is exported. Series appear when they are first counted. No label has a value that a client can choose: unknown methods are
`_OTHER` or `other`, requests without a route have an empty one.

`http_server_request_duration_seconds` follows the OpenTelemetry conventions for HTTP: `error_type` is the code of the rejection or the status
for statuses from 500, `client_closed_request` if the client closed the connection, else empty. Dashboard and alerts:
[deploy/grafana](../deploy/grafana), [deploy/prometheus](../deploy/prometheus).

The memory of a process is `process_resident_memory_bytes`. It is the sum of the kinds `anonymous`, `file` (the binary, which the kernel can
read again) and `shared` of `keygate_process_memory_bytes`. Most of `anonymous` is in the allocator, which keeps a part for later use:
`keygate_allocator_committed_bytes` is what it holds, also what was never touched, and `keygate_allocator_purged_bytes_total` is what it has
returned. A limit of memory must be above `keygate_process_resident_memory_peak_bytes`.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
";

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// The document of these metrics.
pub(super) fn table(metrics: &BTreeMap<String, Metric>) -> String {
    let mut text = HEAD.to_owned();
    for (name, Metric { kind, labels, help }) in metrics {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    text
}

/// The metrics in the document.
pub(super) fn documented() -> BTreeMap<String, Metric> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{row}") };
        let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (name.trim_matches('`').to_owned(), Metric { kind: kind.to_owned(), labels, help: help.to_owned() })
    })
    .collect()
}

/// The metrics in the text format.
pub(super) fn exported(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            let metric = Metric { kind: String::new(), labels: BTreeSet::new(), help: help.to_owned() };
            metrics.insert(name.to_owned(), metric);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            kind.clone_into(&mut metrics.get_mut(name).unwrap().kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = base.filter(|base| metrics.contains_key(*base)).unwrap_or(name);
            let labels = rest.split('"').step_by(2).filter_map(|part| part.strip_suffix('='));
            let labels = labels.map(|label| label.trim_start_matches(',').to_owned()).filter(|label| label != "le");
            metrics.get_mut(name).unwrap().labels.extend(labels);
        }
    }
    metrics
}

/// The names of the metrics that the sources create: texts with such a name that are the first of several arguments.
pub(super) fn in_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |text| {
        let parts: Vec<_> = text.split('"').collect();
        for pair in parts.windows(2) {
            let is_name = PREFIXES.iter().any(|prefix| pair[0].starts_with(prefix))
                && pair[0].bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if is_name && !LABELS.contains(&pair[0]) && pair[1].trim_start().starts_with(',') {
                names.insert(pair[0].to_owned());
            }
        }
    });
    names
}

fn visit(folder: &Path, see: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            see(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
