//! Tables that read well on a terminal and in a pipe: no frames, upper-case heads.

use comfy_table::{Cell, ContentArrangement, presets::NOTHING};

use mcpool::{Sensitivity, Untrusted};

use super::{out, text::Text};

/// How many characters of one cell are shown.
const MAX_CELL_CHARS: usize = 400;

/// A table. What stands in its cells may come from strangers: it is cleaned, masked and cut.
pub(crate) struct Table {
    table: comfy_table::Table,
    masked: Sensitivity,
}

impl Table {
    /// A table with these heads.
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(heads.iter().map(Cell::new));
        // Of a terminal without a width it would make one column of single characters.
        if out::is_terminal() {
            table.set_width(u16::try_from(out::columns()).unwrap_or(u16::MAX));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self {
            table,
            masked: Sensitivity::Value,
        }
    }

    /// A table of what was asked for: see [`Answer`](super::text::Answer).
    pub(crate) fn of_answers(heads: &[&'static str]) -> Self {
        Self {
            masked: Sensitivity::Secret,
            ..Self::new(heads)
        }
    }

    /// Adds a row.
    pub(crate) fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        let cells = cells.into_iter().map(|text| {
            let masked = out::masker().mask(text, self.masked);
            Cell::new(Untrusted::line(masked).clip(MAX_CELL_CHARS))
        });
        self.table.add_row(cells);
    }

    /// The table as text, or these words when it has no rows.
    pub(crate) fn to_text_or(&self, nothing: Text) -> Text {
        match self.table.row_count() {
            0 => nothing,
            _ => self.to_text(),
        }
    }

    /// The table as text; trailing spaces would only get in the way of `cut` and `diff`.
    pub(crate) fn to_text(&self) -> Text {
        let mut text = String::new();
        let table = self.table.to_string();
        // Heads that are all empty are no line.
        let lines = table.lines().skip_while(|line| line.trim().is_empty());
        for line in lines {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        Text::from_shown(text)
    }
}

/// Milliseconds for people: `840 µs`, `1.9 ms`, `12 ms`, `3.4 s`.
pub(crate) fn milliseconds(duration: std::time::Duration) -> String {
    let micros = duration.as_micros();
    if micros < 1_000 {
        format!("{micros} µs")
    } else if micros < 10_000 {
        format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100)
    } else if micros < 1_000_000 {
        format!("{} ms", micros / 1_000)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// A span of time for people: `735 ms`, `2.1 s`, `3 m 20 s`, `2 h 5 m`, `3 d 4 h`.
pub(crate) fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |first: u64, one: &str, second: u64, other: &str| match second {
        0 => format!("{first} {one}"),
        second => format!("{first} {one} {second} {other}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => two(minutes, "m", seconds % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes % 60, "m"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// The first sentence or line of a description.
pub(crate) fn summary(text: &str) -> &str {
    let line = text.trim().lines().next().unwrap_or_default();
    match line.split_once(". ") {
        Some((first, _)) => first,
        None => line.trim_end_matches('.'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_table_in_a_pipe_has_one_line_a_row() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["a\nb", "ready"]);
        table.row(["c\x1b[2J", &"x".repeat(1_000)]);
        let text = table.to_text();
        let lines: Vec<&str> = text.as_str().lines().collect();
        assert_eq!(lines[..2], ["NAME        STATE", "a\\nb        ready"]);
        assert!(lines[2].starts_with("c\\u{1b}[2J  xxx"));
        assert_eq!(lines[2].chars().count(), 12 + MAX_CELL_CHARS);
    }

    #[test]
    fn durations_for_people() {
        for (micros, text) in [
            (7, "7 µs"),
            (1_990, "1.9 ms"),
            (12_300, "12 ms"),
            (3_400_000, "3.4 s"),
        ] {
            assert_eq!(milliseconds(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn spans_for_people() {
        for (ms, text) in [
            (735, "735 ms"),
            (2_100, "2.1 s"),
            (60_000, "1 m"),
            (200_000, "3 m 20 s"),
            (7_500_000, "2 h 5 m"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        assert!(span(Duration::MAX).ends_with('h'));
    }

    #[test]
    fn a_summary_is_the_first_sentence() {
        assert_eq!(summary("Reads a file. Slowly.\nMore"), "Reads a file");
        assert_eq!(summary("Reads.\nMore"), "Reads");
    }
}
