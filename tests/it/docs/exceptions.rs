//! Examples that are not run, outputs that are not compared, and what examples do besides.

/// Examples that cannot run in a test: document, a text in the example, reason.
pub(super) const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "make install", "builds the product; `make run` and `make test` are how the tests are started"),
    (
        "README.md",
        "make run ARGS=",
        "builds the product; dev::requests_are_forwarded_to_the_given_upstream tests --upstream",
    ),
    ("docs/audit.md", "cargo bench", "a benchmark of minutes"),
    ("docs/deployment.md", "docker build", "needs Docker; `make testdeploy` builds the image and starts it"),
    ("docs/deployment.md", "docker compose", "needs Docker; `make testdeploy` starts the services as processes"),
    ("docs/deployment.md", "helm install", "needs a cluster; `make testdeploy` renders the chart and checks it"),
    (
        "docs/deployment.md",
        "kubectl apply",
        "needs a cluster; `make testdeploy` checks the manifests and starts the sidecar",
    ),
    ("docs/deployment.md", "systemctl enable", "changes the system; `make testdeploy` checks the unit"),
    ("docs/migration-from-talos.md", "migrate from-talos", "needs another server; migrate_from_talos runs it"),
    ("docs/operations.md", "keygate upgrade --pid", "changes the system; stop::upgrade tests the command"),
    ("docs/operations.md", "VACUUM INTO", "backup::sqlite runs it, while keys are issued"),
    ("docs/operations.md", "install -m 600 keygate-backup.db", "backup::sqlite runs it"),
    ("docs/operations.md", "pg_dump", "backup::postgres runs it, while keys are issued"),
    ("docs/operations.md", "pg_restore", "backup::postgres runs it"),
    ("docs/performance.md", "make bench", "a benchmark of minutes"),
];

/// Documents whose shown output is an example of other data.
pub(super) const NOT_COMPARED: &[(&str, &str)] = &[("docs/usage.md", "the key of the test has no requests")];

/// What the examples of a document print, and the files that they write.
pub(super) const EFFECTS: &[(&str, &[&str], &[&str])] = &[(
    "docs/cli.md",
    &["true\nfalse\n", "no longer valid\n"],
    &["signing-keys.json", "keygate.bash", "_keygate", "keygate.fish", "man1/keygate-keys-issued-issue.1"],
)];
