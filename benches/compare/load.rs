//! The load: `wrk`, with requests from a file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::{is_installed, load_core, pinned};

/// Connections, all of them busy all the time.
const CONNECTIONS: usize = 32;
const SCRIPT: &str = include_str!("load.lua");

/// What came back.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Load {
    /// Answers of any kind.
    pub(crate) requests: u64,
    /// How long it took.
    pub(crate) micros: u64,
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
    /// Answers with a status of 400 or more.
    pub(crate) refused: u64,
    /// Connections that could not be made or broke, and answers that did not come.
    pub(crate) broken: u64,
}

/// Makes load.
pub(crate) struct Generator {
    script: PathBuf,
}

impl Generator {
    /// One with its script in a folder.
    pub(crate) fn new(folder: &Path) -> Self {
        assert!(is_installed("wrk"), "wrk is needed; `deploy/ci/ensure.sh bench` installs it");
        let script = folder.join("load.lua");
        std::fs::write(&script, SCRIPT).unwrap();
        Self { script }
    }

    /// Sends the requests of a file to an address for some seconds.
    pub(crate) fn run(&self, address: &str, requests: &Path, seconds: u64) -> Load {
        let output = pinned(load_core(), Path::new("wrk"))
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--latency", "-s"])
            .arg(&self.script)
            .arg(format!("http://{address}/"))
            .arg("--")
            .arg(requests)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with('{'));
        line.and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Writes requests to a file, for [`Generator::run`]; the path of each, and its credential.
pub(crate) fn write_requests<'a>(file: &Path, requests: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let lines: Vec<String> = requests.into_iter().map(|(path, credential)| format!("{path} {credential}\n")).collect();
    std::fs::write(file, lines.concat()).unwrap();
}
