//! A screen as an SVG picture: one text element for each run of cells that look alike.

use std::fmt::Write as _;

use super::screen::{Screen, Style};

/// The size of a cell, in pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 19.0;
const MARGIN: f64 = 16.0;
/// The bar above the screen.
const BAR: f64 = 34.0;

const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d7dae0";
/// The sixteen colours of a terminal.
const COLOURS: [&str; 16] = [
    "#3f4451", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d7dae0",
    "#6b7280", "#ff7b86", "#b5e08c", "#ffd98a", "#7cc3ff", "#d794f0", "#6fd0db", "#ffffff",
];

/// Draws it.
pub(crate) fn draw(screen: &Screen, title: &str) -> String {
    let rows = screen.rows().count();
    let width = screen.columns() as f64 * WIDTH + 2.0 * MARGIN;
    let height = rows as f64 * HEIGHT + BAR + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g fill=\"#5a606b\"><circle cx=\"20\" cy=\"17\" r=\"5\"/><circle cx=\"38\" cy=\"17\" r=\"5\"/>\
         <circle cx=\"56\" cy=\"17\" r=\"5\"/></g>\n\
         <g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"14\" \
         fill=\"{FOREGROUND}\" xml:space=\"preserve\">\n"
    );
    for (number, row) in screen.rows().enumerate() {
        let top = BAR + number as f64 * HEIGHT;
        let mut column = 0;
        for run in row.chunk_by(|one, other| one.1 == other.1) {
            let style = run.first().map(|(_, style)| *style).unwrap_or_default();
            let text: String = run.iter().map(|(c, _)| c).collect();
            put(&mut svg, column, top, &text, style);
            column += run.len();
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Adds a run of cells, unless nothing of it is seen.
fn put(svg: &mut String, column: usize, top: f64, text: &str, style: Style) {
    let left = MARGIN + column as f64 * WIDTH;
    let cells = text.chars().count();
    let mut colour = style
        .colour
        .and_then(|index| COLOURS.get(usize::from(index)))
        .copied();
    if style.reversed {
        let width = cells as f64 * WIDTH;
        let fill = colour.unwrap_or(FOREGROUND);
        // Writing to a text cannot fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{fill}\"/>"
        );
        colour = Some(BACKGROUND);
    }
    let shown = text.trim_end();
    if shown.is_empty() {
        return;
    }
    let base = top + 14.0;
    let length = shown.chars().count() as f64 * WIDTH;
    let _ = write!(
        svg,
        "<text x=\"{left:.1}\" y=\"{base:.1}\" textLength=\"{length:.1}\""
    );
    if let Some(colour) = colour {
        let _ = write!(svg, " fill=\"{colour}\"");
    }
    if style.bold {
        svg.push_str(" font-weight=\"bold\"");
    }
    if style.dim {
        svg.push_str(" opacity=\"0.6\"");
    }
    let escaped = shown.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, ">{escaped}</text>");
}
