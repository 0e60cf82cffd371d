//! Problems as plain text: for logs, for tests, and for programs that have no renderer of their
//! own. The CLI draws the same data in colour.

use std::fmt::Write as _;

use crate::{
    diagnose::Problem,
    source::{Position, Span},
};

/// How long a shown source line may be; longer ones are cut around the caret.
const MAX_LINE: usize = 100;

/// The problem with its source line and a caret.
pub(crate) fn render(problem: &Problem) -> String {
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = write!(out, "{}[{}]: ", problem.severity, problem.code);
    if let Some(server) = &problem.server {
        let _ = write!(out, "server {server:?}: ");
    }
    out.push_str(&problem.message);
    out.push('\n');
    if let Some(span) = &problem.span {
        place(&mut out, span, problem.label.as_deref().unwrap_or(""), '^');
    }
    for (label, span) in &problem.related {
        place(&mut out, span, label, '-');
    }
    if let Some(help) = &problem.help {
        let _ = writeln!(out, "  help: {help}");
    }
    out
}

fn place(out: &mut String, span: &Span, label: &str, mark: char) {
    let Position { line, column } = span.position();
    let _ = writeln!(out, "  --> {span}");
    let text: Vec<char> = span.shown_line().chars().collect();
    let before = (column - 1).min(text.len());
    // Cut a long line so that the caret stays in sight.
    let skip = before.saturating_sub(MAX_LINE / 2);
    let skip = if text.len() > MAX_LINE { skip } else { 0 };
    let shown: String = text
        .iter()
        .skip(skip)
        .take(MAX_LINE)
        .map(|c| if c.is_control() { ' ' } else { *c })
        .collect();
    let gutter = line.to_string();
    let pad = " ".repeat(gutter.len());
    let head = if skip > 0 { "…" } else { "" };
    let tail = if text.len() > skip + MAX_LINE {
        "…"
    } else {
        ""
    };
    let range = span.range();
    let width = span.source().text()[range]
        .lines()
        .next()
        .map_or(0, |first| first.chars().count())
        .clamp(1, (text.len() - before).max(1))
        .min(MAX_LINE);
    let indent = " ".repeat(before - skip + head.chars().count());
    let marks = mark.to_string().repeat(width);
    let _ = writeln!(out, " {pad} |");
    let _ = writeln!(out, " {gutter} | {head}{shown}{tail}");
    let _ = writeln!(
        out,
        " {pad} | {}",
        format!("{indent}{marks} {label}").trim_end()
    );
}
