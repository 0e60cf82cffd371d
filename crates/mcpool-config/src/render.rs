//! Problems as plain text: for logs, for tests, and for programs that have no renderer of their
//! own. The CLI draws the same data in colour.

use std::fmt::Write as _;

use mcpool_core::Untrusted;

use crate::{problem::Problem, source::Span};

impl Problem {
    /// Several lines of plain text: the message, the source line with a caret, the help.
    #[must_use]
    pub fn render(&self) -> String {
        render(self)
    }
}

fn render(problem: &Problem) -> String {
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = write!(out, "{}[{}]: ", problem.severity, problem.code);
    if let Some(server) = &problem.server {
        let _ = write!(out, "server {:?}: ", Untrusted::line(server));
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
    let excerpt = span.excerpt();
    let _ = writeln!(out, "  --> {span}");
    let gutter = excerpt.position.line.to_string();
    let pad = " ".repeat(gutter.len());
    let width = |text: &str| text.chars().count();
    let indent = " ".repeat(width(&excerpt.text[..excerpt.marked.start]));
    let marks = width(&excerpt.text[excerpt.marked.clone()]).max(1);
    let marks = mark.to_string().repeat(marks);
    let _ = writeln!(out, " {pad} |");
    let _ = writeln!(out, " {gutter} | {}", excerpt.text);
    let _ = writeln!(
        out,
        " {pad} | {}",
        format!("{indent}{marks} {label}").trim_end()
    );
}
