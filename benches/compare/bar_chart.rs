//! Horizontal bar charts, as SVG.

use std::fmt::Write as _;

/// A bar with its label.
pub(crate) struct Bar {
    /// The label on the left.
    pub(crate) name: String,
    /// The length, in the unit of the chart.
    pub(crate) value: f64,
    /// The text at the end of the bar.
    pub(crate) note: String,
    /// Whether the bar has the colour of Keygate.
    pub(crate) is_keygate: bool,
}

/// Bars below a common title.
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

const WIDTH: f64 = 860.0;
/// The x coordinate at which bars begin.
const BAR_LEFT: f64 = 245.0;
/// The length of the longest bar.
const MAX_BAR_LENGTH: f64 = 460.0;
const BAR_THICKNESS: f64 = 16.0;
const LINE_HEIGHT: f64 = 24.0;
const MARGIN: f64 = 16.0;
const KEYGATE_COLOUR: &str = "#2f6db3";
const OTHER_COLOUR: &str = "#a9b4c0";

/// Draws the groups below each other, on a common scale that begins at zero.
pub(crate) fn draw(title: &str, groups: &[Group]) -> String {
    let longest = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut body = String::new();
    let mut y = MARGIN + LINE_HEIGHT;
    text(&mut body, MARGIN, y - LINE_HEIGHT / 2.0, "start", "bold", title);
    for group in groups {
        y += LINE_HEIGHT;
        text(&mut body, MARGIN, y - LINE_HEIGHT / 2.0, "start", "bold", &group.title);
        for bar in &group.bars {
            let length = bar.value / longest * MAX_BAR_LENGTH;
            text(&mut body, BAR_LEFT - 8.0, y + LINE_HEIGHT / 2.0, "end", "normal", &bar.name);
            writeln!(
                body,
                r#"<rect x="{BAR_LEFT}" y="{:.1}" width="{length:.1}" height="{BAR_THICKNESS}" fill="{}"/>"#,
                y + (LINE_HEIGHT - BAR_THICKNESS) / 2.0,
                if bar.is_keygate { KEYGATE_COLOUR } else { OTHER_COLOUR },
            )
            .unwrap();
            text(&mut body, BAR_LEFT + length + 8.0, y + LINE_HEIGHT / 2.0, "start", "normal", &bar.note);
            y += LINE_HEIGHT;
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
