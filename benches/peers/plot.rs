//! The costs as bars, in SVG that suits a light and a dark page.

use std::fmt::Write as _;

/// One figure: its name, and a bar for each peer.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) bars: Vec<(&'static str, f64)>,
}

/// Each group has a scale of its own, from zero to its longest bar.
pub(crate) fn draw(groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + groups.len() * HEADING + rows * ROW;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">
<style>text {{ fill: #24292f }} .own {{ fill: #d9730d }} .peer {{ fill: #8c959f }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .own {{ fill: #f0883e }} .peer {{ fill: #6e7681 }} }}</style>
"#
    );
    let mut y = TOP;
    for group in groups {
        // Writing to a string does not fail.
        let _ =
            writeln!(svg, r#"<text x="0" y="{}" font-weight="bold">{}</text>"#, y + HEADING - 10, group.name);
        y += HEADING;
        let most = group.bars.iter().map(|(_, value)| *value).fold(f64::EPSILON, f64::max);
        for (peer, value) in &group.bars {
            let length = (value.max(0.0) / most * BAR).round();
            let class = if *peer == "dashgate" { "own" } else { "peer" };
            let base = y + 15;
            let _ = writeln!(
                svg,
                r#"<text x="{}" y="{base}" text-anchor="end">{peer}</text><rect class="{class}" x="{LEFT}" y="{}" width="{length}" height="14"/><text x="{}" y="{base}">{value:.1}</text>"#,
                LEFT - 8,
                y + 4,
                LEFT as f64 + length + 6.0
            );
            y += ROW;
        }
    }
    svg + "</svg>\n"
}

const WIDTH: usize = 720;
const LEFT: usize = 80;
const BAR: f64 = 560.0;
const TOP: usize = 4;
const HEADING: usize = 34;
const ROW: usize = 20;
