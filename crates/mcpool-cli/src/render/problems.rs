//! Problems of config files, drawn with their source lines by miette.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use mcpool::config::{Problem, Severity};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};
use serde_json::{Value, json};

/// Draws a problem; in colour when `color`.
pub(crate) fn draw(problem: &Problem, color: bool) -> String {
    let theme = if color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(100)
        .with_links(false);
    let mut out = String::new();
    let report = Report::new(problem);
    match handler.render_report(&mut out, &report) {
        Ok(()) => out,
        // A renderer that fails must not hide the problem.
        Err(_) => problem.render(),
    }
}

/// Writes problems to standard error.
pub(crate) fn print(problems: &[&Problem]) {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for problem in problems {
        let text = draw(problem, color);
        // The colours are ours; everything else that could steer a terminal is not.
        if color {
            eprintln!("{text}");
        } else {
            eprintln!("{}", super::printable(&text));
        }
    }
}

/// A problem for programs.
pub(crate) fn to_json(problem: &Problem) -> Value {
    let position = problem.span.as_ref().map(mcpool::config::Span::position);
    json!({
        "severity": problem.severity,
        "code": problem.code,
        "message": problem.message,
        "help": problem.help,
        "server": problem.server,
        "file": problem.span.as_ref().map(|span| span.source().name()),
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
    })
}

/// A problem as miette wants it.
#[derive(Debug)]
struct Report<'a> {
    problem: &'a Problem,
    source: Option<NamedSource<String>>,
}

impl<'a> Report<'a> {
    fn new(problem: &'a Problem) -> Self {
        let source = problem.span.as_ref().map(|span| {
            // Secrets in the text are overwritten, and control characters could steer a terminal.
            let text: String = span
                .source()
                .shown_text()
                .chars()
                .map(|c| match c {
                    '\n' | '\t' | '\r' => c,
                    c if c.is_ascii_control() => ' ',
                    c => c,
                })
                .collect();
            NamedSource::new(span.source().name(), text)
        });
        Self { problem, source }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.problem.server {
            write!(f, "server {server:?}: ")?;
        }
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.problem.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            _ => miette::Severity::Advice,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        let help = self.problem.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span.as_ref()?;
        let main = LabeledSpan::new_primary_with_span(self.problem.label.clone(), span.range());
        let related = self
            .problem
            .related
            .iter()
            .filter(|(_, other)| other.source().name() == span.source().name())
            .map(|(label, span)| LabeledSpan::new_with_span(Some(label.clone()), span.range()));
        Some(Box::new(std::iter::once(main).chain(related)))
    }
}

#[cfg(test)]
mod tests {
    use mcpool::config::Loader;

    use super::*;

    #[test]
    fn a_problem_shows_its_line_and_no_secret() {
        let loaded = Loader::new()
            .with_text(
                "mcp.json",
                r#"{ "mcpServers": { "a": { "comand": "x", "env": { "TOKEN": "canary-value" } } } }"#,
            )
            .load()
            .unwrap();
        let text: String = loaded.problems.iter().map(|p| draw(p, false)).collect();
        assert!(text.contains("did you mean `command`?"), "{text}");
        assert!(text.contains("mcp.json:1:"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
