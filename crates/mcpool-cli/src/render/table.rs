//! Tables that read well on a terminal and in a pipe: no frames, upper-case heads.

use comfy_table::{Cell, ContentArrangement, Table, presets::NOTHING};

use super::printable;

/// A table with these heads.
pub(crate) fn new(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(heads.iter().map(Cell::new));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell with text that may come from a server: one line, safe to show.
pub(crate) fn cell(text: &str) -> Cell {
    let line: Vec<&str> = text.split_whitespace().collect();
    Cell::new(printable(&line.join(" ")))
}

/// The table as text; trailing spaces would only get in the way of `cut` and `diff`.
pub(crate) fn show(table: &Table) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Milliseconds for people: `840 µs`, `12 ms`, `3.4 s`.
pub(crate) fn milliseconds(duration: std::time::Duration) -> String {
    let micros = duration.as_micros();
    if micros < 1_000 {
        format!("{micros} µs")
    } else if micros < 1_000_000 {
        format!("{} ms", micros / 1_000)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
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
        let mut table = new(&["NAME", "STATE"]);
        table.add_row([cell("a\nb"), cell("ready")]);
        assert_eq!(show(&table), "NAME  STATE\na b   ready\n");
    }

    #[test]
    fn durations_for_people() {
        for (micros, text) in [(7, "7 µs"), (12_300, "12 ms"), (3_400_000, "3.4 s")] {
            assert_eq!(milliseconds(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn a_summary_is_the_first_sentence() {
        assert_eq!(summary("Reads a file. Slowly.\nMore"), "Reads a file");
        assert_eq!(summary("Reads.\nMore"), "Reads");
    }
}
