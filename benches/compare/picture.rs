//! Horizontal bars, as SVG.

use std::fmt::Write as _;

/// A bar: what it is of, how long it is, and what is written at its end.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) note: String,
    /// Whether it is Keygate's, which has a colour of its own.
    pub(crate) is_ours: bool,
}

/// Bars that belong together.
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

const WIDTH: f64 = 860.0;
/// From where bars begin, and how long the longest is.
const LEFT: f64 = 245.0;
const LONGEST: f64 = 460.0;
const LINE: f64 = 24.0;
const THICKNESS: f64 = 16.0;
const MARGIN: f64 = 16.0;
const OURS: &str = "#2f6db3";
const OTHERS: &str = "#a9b4c0";

/// All groups under one another, on one scale, beginning at zero.
pub(crate) fn draw(title: &str, groups: &[Group]) -> String {
    let longest = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut body = String::new();
    let mut y = MARGIN + LINE;
    text(&mut body, MARGIN, y - LINE / 2.0, "start", "bold", title);
    for group in groups {
        y += LINE;
        text(&mut body, MARGIN, y - LINE / 2.0, "start", "bold", &group.title);
        for bar in &group.bars {
            let length = bar.value / longest * LONGEST;
            text(&mut body, LEFT - 8.0, y + LINE / 2.0, "end", "normal", &bar.name);
            writeln!(
                body,
                r#"<rect x="{LEFT}" y="{:.1}" width="{length:.1}" height="{THICKNESS}" fill="{}"/>"#,
                y + (LINE - THICKNESS) / 2.0,
                if bar.is_ours { OURS } else { OTHERS },
            )
            .unwrap();
            text(&mut body, LEFT + length + 8.0, y + LINE / 2.0, "start", "normal", &bar.note);
            y += LINE;
        }
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, weight: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(
        body,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-weight="{weight}" dominant-baseline="central">{text}</text>"#
    )
    .unwrap();
}
