//! Problems of config files, drawn with their source lines by miette.

use std::{fmt, ops::Range};

use mcpool::config::{Problem, ProblemSummary, Severity, Span};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};
use serde_json::{Value, json};

use super::{
    out,
    text::{Text, line, shown},
};
use crate::{invocation::program, text};

/// Draws a problem; in colour when `colour`.
fn draw(problem: &Problem, colour: bool) -> String {
    let theme = if colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(out::columns())
        .with_links(false);
    let mut drawn = String::new();
    match handler.render_report(&mut drawn, &Report::new(problem)) {
        Ok(()) => drawn,
        // A renderer that fails must not hide the problem.
        Err(_) => problem.render(),
    }
}

/// Writes problems to standard error: the first of equal ones, and how many more there are.
pub(crate) fn print(problems: &[&Problem]) {
    let summary = ProblemSummary::of(problems.iter().copied());
    let colour = out::takes_colours();
    for problem in &summary.shown {
        out::tell_coloured(&format!("{}\n", draw(problem, colour)));
    }
    out::tell(&rest(&summary));
}

/// How many problems there are that a command is not kept up by, and in which files; nothing when
/// there are none.
pub(crate) fn in_one_line(problems: &[&Problem]) -> Text {
    let count = |severity| problems.iter().filter(|p| p.severity == severity).count();
    let counts: Vec<Text> = [
        (count(Severity::Error), "error"),
        (count(Severity::Warning), "warning"),
        (count(Severity::Note), "note"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| text!("{}", counted(count, word)))
    .collect();
    if counts.is_empty() {
        return Text::default();
    }
    let mut files: Vec<&str> = Vec::new();
    for span in problems.iter().filter_map(|problem| problem.span.as_ref()) {
        if !files.contains(&span.source().name()) {
            files.push(span.source().name());
        }
    }
    let mut text = Text::join(counts, ", ");
    if !files.is_empty() {
        let files = files.into_iter().map(|file| text!("{}", file));
        text.push(&text!(" in {}", Text::join(files, ", ")));
    }
    text.push(&text!(": `{} config check`\n", program()));
    text
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// What is said of the problems that are not drawn.
fn rest(summary: &ProblemSummary<'_>) -> Text {
    let mut text = Text::default();
    for (problem, count) in &summary.equals {
        text.push(&text!(
            "… and {} more like this: {}\n",
            count,
            problem.message
        ));
    }
    if summary.others > 0 {
        let others = counted(summary.others, "other problem");
        text.push(&text!(
            "… and {}; `{} config check --json` lists all\n",
            others,
            program()
        ));
    }
    text
}

/// A problem for programs.
pub(crate) fn to_json(problem: &Problem) -> Value {
    let position = problem.span.as_ref().map(Span::position);
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
    lines: Lines,
    labels: Vec<LabeledSpan>,
}

impl<'a> Report<'a> {
    fn new(problem: &'a Problem) -> Self {
        let mut lines = Lines::default();
        let mut labels = Vec::new();
        if let Some(span) = &problem.span {
            lines.name = line(span.source().name()).to_string();
            let main = lines.add(span);
            labels.push(LabeledSpan::new_primary_with_span(
                problem.label.as_deref().map(clean),
                main,
            ));
            let related = problem.related.iter();
            for (label, other) in
                related.filter(|(_, other)| other.source().name() == span.source().name())
            {
                let place = lines.add(other);
                labels.push(LabeledSpan::new_with_span(Some(clean(label)), place));
            }
        }
        Self {
            problem,
            lines,
            labels,
        }
    }
}

fn clean(text: &str) -> String {
    line(text).to_string()
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.problem.server {
            write!(f, "server {:?}: ", line(server))?;
        }
        write!(f, "{}", shown(&self.problem.message))
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
        Some(Box::new(shown(help)))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.labels.is_empty()).then_some(&self.lines)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// The excerpts around a problem's places, as the source that miette draws from. It sees no more
/// of the file: what it does with a line takes time and room by the line's length, and it panics
/// behind column 65 535.
#[derive(Debug, Default)]
struct Lines {
    name: String,
    text: String,
    excerpts: Vec<Place>,
}

/// One excerpt: its bytes in the text, and where it really stands. Numbers count from 0.
#[derive(Debug)]
struct Place {
    range: Range<usize>,
    line: usize,
    column: usize,
}

impl Lines {
    /// Adds the excerpt around a span; gives the place of the span in it.
    fn add(&mut self, span: &Span) -> Range<usize> {
        let excerpt = span.excerpt();
        let start = self.text.len();
        self.text.push_str(&excerpt.text);
        self.excerpts.push(Place {
            range: start..self.text.len(),
            line: excerpt.position.line - 1,
            column: excerpt.position.column - 1,
        });
        self.text.push('\n');
        start + excerpt.marked.start..start + excerpt.marked.end
    }
}

impl SourceCode for Lines {
    /// The whole excerpt that a span lies in, however many lines around it are asked for; for the
    /// head of a picture (no lines around it), with the column that the span really has.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let end = span.offset() + span.len();
        let holds = |place: &&Place| place.range.start <= span.offset() && end <= place.range.end;
        // A span over two excerpts is asked for to draw them as one: they are drawn apart.
        let place = self.excerpts.iter().find(holds);
        let place = place.ok_or(MietteError::OutOfBounds)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            self.text[place.range.clone()].as_bytes(),
            place.range.clone().into(),
            place.line,
            if before == 0 { place.column } else { 0 },
            1,
        )))
    }
}

#[cfg(test)]
mod tests {
    use mcpool::config::{Loaded, Loader};

    use super::*;

    fn loaded(text: &str) -> Loaded {
        Loader::new().with_text("mcp.json", text).load().unwrap()
    }

    fn drawn(text: &str) -> String {
        let loaded = loaded(text);
        let drawn = loaded.problems.iter().map(|problem| draw(problem, false));
        drawn.collect()
    }

    #[test]
    fn a_problem_shows_its_line_and_no_secret() {
        let text = drawn(
            r#"{ "mcpServers": { "a": { "comand": "x", "env": { "TOKEN": "canary-value" } } } }"#,
        );
        assert!(text.contains("did you mean `command`?"), "{text}");
        assert!(text.contains("[mcp.json:1:"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn a_problem_far_into_a_line_is_drawn_as_any_other() {
        let text = drawn(&format!(
            r#"{{"mcpServers":{{"a":{{"command":"cat","description":"{}","timeot":"1s"}}}}}}"#,
            "x".repeat(70_000)
        ));
        assert!(text.contains("[mcp.json:1:70054]"), "{text}");
        assert!(text.contains(r#"","timeot":"**"}}}"#), "{text}");
        assert!(text.len() < 2_000, "{}", text.len());
    }

    #[test]
    fn two_places_are_drawn_with_their_own_lines() {
        let text = drawn(
            "{ \"mcpServers\": {\n \"a\": { \"command\": \"x\" },\n\n \"a\": { \"command\": \"y\" } } }",
        );
        for words in [
            "this one counts",
            "this one is ignored",
            " 2 │",
            " 4 │",
            "[mcp.json:4:2]",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn of_800_equal_problems_three_are_drawn() {
        let servers: Vec<String> = (0..800)
            .map(|n| format!(r#""s{n}":{{"comand":"x"}}"#))
            .collect();
        let loaded = loaded(&format!(r#"{{"mcpServers":{{{}}}}}"#, servers.join(",")));
        let summary = ProblemSummary::of(&loaded.problems);
        let drawn: String = summary
            .shown
            .iter()
            .map(|problem| draw(problem, true))
            .collect();
        let rest = rest(&summary);
        assert!(drawn.len() + rest.as_str().len() < 16_000, "{drawn}");
        assert!(
            rest.as_str().contains("and 797 more like this"),
            "{}",
            rest.as_str()
        );
    }
}
