//! Runs the examples of a document in one shell.

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use super::placeholders::Placeholders;
use crate::support::keygate::{BINARY, command_of, write_private};

/// The functions of the shell, before the examples.
const PRELUDE: &str = include_str!("prelude.sh");

/// A line between the outputs of two examples.
const SEPARATOR: &str = "--- the next example ---";

/// What the examples have printed to stdout and stderr, one after the other, and the folder in which they ran.
pub(super) struct Finished {
    pub(super) outputs: Vec<String>,
    pub(super) folder: TempDir,
}

/// Runs examples; each must succeed.
pub(super) fn run(document: &str, examples: &[String], placeholders: &Placeholders) -> Finished {
    let folder = TempDir::new().unwrap();
    prepare(folder.path());
    let mut script = PRELUDE.to_owned();
    for example in examples {
        write!(script, "\nprintf '\\n%s\\n' '{SEPARATOR}'\n{example}").unwrap();
    }
    let [gateway, admin, metrics] = placeholders.ports.map(|port| port.to_string());
    let path = format!("{}:{}", Path::new(BINARY).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = command_of("sh", &["-euc", &script]);
    shell.current_dir(folder.path()).stdin(Stdio::null()).env("PATH", path);
    shell.env("KEYGATE_ENDPOINT", &placeholders.endpoint).env("KEYGATE_ADMIN_KEY", &placeholders.admin_key);
    shell.env("NO_PROXY", "*").env("GATEWAY_PORT", gateway).env("ADMIN_PORT", admin).env("METRICS_PORT", metrics);
    let output = shell.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{document}: {}\n{stdout}\n{stderr}", output.status);
    let outputs: Vec<_> = stdout.split(SEPARATOR).skip(1).map(str::to_owned).collect();
    assert_eq!(outputs.len(), examples.len(), "{document}: {stdout}");
    Finished { outputs, folder }
}

/// The files that examples expect: the folder `config` of the repository, and keys to import.
fn prepare(folder: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir(folder.join("config")).unwrap();
    std::fs::copy(repository.join("config/minimal.yaml"), folder.join("config/minimal.yaml")).unwrap();
    let keys = r#"[{"raw_key": "sk_live_a", "name": "first", "actor_id": "shop"}]"#;
    write_private(&folder.join("keys.json"), keys);
}
