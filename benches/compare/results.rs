//! Where what was measured is kept.

use std::path::{Path, PathBuf};

use keygate::clock::{Clock, SystemClock};
use serde_json::json;

use crate::machine::{machine, versions};
use crate::measured::Measured;
use crate::picture::{Group, draw};
use crate::settings::Settings;
use crate::table::Row;

/// What was measured, to be kept under a name.
pub(crate) struct Results<'a> {
    /// Of the files, after the date.
    pub(crate) suffix: &'a str,
    pub(crate) title: &'a str,
    pub(crate) measured: &'a [Measured],
    pub(crate) rows: &'a [Row],
    pub(crate) groups: &'a [Group],
}

impl Results<'_> {
    /// Writes all rounds and the picture to `benches/results/`, under the date of today (UTC).
    pub(crate) fn write(&self, settings: &Settings) {
        let date = SystemClock.now().format("%Y-%m-%d").to_string();
        let all = json!({
            "date": date,
            "machine": machine(),
            "versions": versions(settings),
            "seconds": settings.seconds,
            "measured": self.measured,
            "compared": self.rows,
        });
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        std::fs::create_dir_all(&folder).unwrap();
        let file = |extension: &str| -> PathBuf { folder.join(format!("{date}{}.{extension}", self.suffix)) };
        std::fs::write(file("json"), serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
        std::fs::write(file("svg"), draw(&format!("{} ({date})", self.title), self.groups)).unwrap();
        println!("\nwritten: {} and .svg", file("json").display());
    }
}
