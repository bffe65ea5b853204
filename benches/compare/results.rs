//! The result files.

use std::path::{Path, PathBuf};

use keygate::clock::{Clock, SystemClock};
use serde_json::json;

use crate::bar_chart::{Group, draw};
use crate::machine::{machine, versions};
use crate::measurements::Measurements;
use crate::settings::Settings;
use crate::table::Row;

/// The content of the result files.
pub(crate) struct Results<'a> {
    /// The part of the file names after the date.
    pub(crate) suffix: &'a str,
    /// The title of the chart.
    pub(crate) title: &'a str,
    pub(crate) measured: &'a [Measurements],
    pub(crate) rows: &'a [Row],
    /// The bars of the chart.
    pub(crate) groups: &'a [Group],
}

impl Results<'_> {
    /// Writes all rounds as JSON and a chart as SVG to `benches/results/`. The file names begin with the current date in UTC.
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
        println!("\nwrote {} and .svg", file("json").display());
    }
}
