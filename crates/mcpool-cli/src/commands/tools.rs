//! `mcpool tools [SERVER [TOOL]]`: the tools with their parameters, or one tool in full.

use clap::Args;
use mcpool::{Error, Refresh, ServerName, ToolEntry, ToolSnapshot, Untrusted, model::Tool, search};
use serde_json::{Value, json};

use super::{Outcome, left_out};
use crate::{
    app::{App, Attempt},
    exit::{Exit, Failure, unknown},
    invocation::program,
    named,
    render::{
        out, table,
        text::{Answer, AnswerLine, Text},
    },
    signature::{self, Parameter},
    text,
};

/// `mcpool tools`
#[derive(Debug, Args)]
pub(crate) struct ToolsArgs {
    /// Only this server; or one of its tools, as SERVER.TOOL or by its qualified name
    pub(crate) server: Option<String>,
    /// Only this tool, in full
    pub(crate) tool: Option<String>,
    /// Rank the tools by how well their names and descriptions fit these words
    #[arg(long, value_name = "WORDS", num_args = 1.., conflicts_with = "tool")]
    search: Vec<String>,
    /// Print the tool as the server describes it: its JSON Schemas, unabridged
    #[arg(long)]
    schema: bool,
}

/// Runs it.
pub(crate) async fn run(app: &App, args: ToolsArgs) -> Outcome {
    if args.schema && args.server.is_none() {
        return Err(Failure::usage(text!("--schema needs a SERVER")));
    }
    let (manager, named) = match &args.server {
        None => (app.configured(None).await?, None),
        Some(first) => {
            let (manager, named) = app.configured_named(first, args.tool.as_deref()).await?;
            (manager, Some(named))
        }
    };
    let attempts = app.connect_all(manager).await;
    let snapshot = manager.tools(Refresh::IfStale).await;
    let left_out = left_out::of_tools(manager).await;
    let unlisted = unlisted(&attempts, &snapshot);
    let mut entries: Vec<&ToolEntry> = snapshot.entries.iter().collect();
    let tool = named.as_ref().and_then(|named| named.tool.as_deref());
    if let Some(tool) = tool {
        entries.retain(|entry| named::is_named(tool, entry.server.as_str(), &entry.name));
    }
    let words = args.search.join(" ");
    if !words.is_empty() {
        let documents = entries.iter();
        let documents = documents
            .map(|entry| search::document(&entry.name, &entry.tool))
            .collect();
        let found = search::rank(&words, documents).into_iter();
        entries = found.filter_map(|at| entries.get(at).copied()).collect();
    }
    if app.global.json {
        let tools: Vec<Value> = entries.iter().map(|entry| to_json(entry)).collect();
        let left_out = left_out::with_missing("tools/list", &left_out, &attempts, &unlisted);
        out::answer(&json!({ "tools": tools, "left_out": left_out }))?;
    } else if args.schema {
        for entry in &entries {
            let described: Value = entry.tool.raw().parse()?;
            out::answer(&described)?;
        }
    } else if tool.is_some() {
        for entry in &entries {
            out::paged(&in_full(
                &app.words_of(&entry.server),
                &entry.server,
                &entry.tool,
            ))?;
        }
    } else if !words.is_empty() {
        out::paged(&ranked(&entries, &words))?;
    } else {
        out::paged(&list(&attempts, &snapshot, app.has_target()))?;
    }
    left_out::tell(&left_out);
    let exit = app.report_attempts(&attempts);
    let exit = super::report_lists(app, exit, &unlisted)?;
    match tool {
        Some(tool) if entries.is_empty() && exit == Exit::Good => {
            let known: Vec<&str> = snapshot.entries.iter().map(|entry| &*entry.name).collect();
            Err(unknown("tool", tool, &known))
        }
        _ => Ok(exit),
    }
}

/// What did not connect is reported; what connected and does not list its tools is left.
fn unlisted(attempts: &[Attempt], snapshot: &ToolSnapshot) -> Vec<Error> {
    let left = snapshot.problems.iter().filter(|(name, _)| {
        let attempt = attempts.iter().find(|attempt| attempt.server == *name);
        attempt.is_none_or(|attempt| attempt.result.is_ok())
    });
    left.map(|(_, error)| error.clone()).collect()
}

fn input_schema(tool: &Tool) -> Value {
    Value::Object((*tool.input_schema).clone())
}

fn to_json(entry: &ToolEntry) -> Value {
    let tool = &entry.tool;
    json!({
        "server": entry.server.as_str(),
        "name": &*entry.name,
        "qualified_name": &*entry.qualified_name,
        "title": title(tool),
        "description": tool.description,
        "input_schema": tool.input_schema,
        "output_schema": tool.output_schema,
        "annotations": tool.annotations,
    })
}

/// The name for people: of the tool, or of its annotations as in MCP 2025-03-26.
fn title(tool: &Tool) -> Option<&str> {
    let annotations = tool.annotations.as_ref();
    let annotated = || annotations.and_then(|annotations| annotations.title.as_deref());
    tool.title.as_deref().or_else(annotated)
}

/// The tools of each server that connected, below its name.
fn list(attempts: &[Attempt], snapshot: &ToolSnapshot, is_target: bool) -> Text {
    if attempts.is_empty() {
        return super::nothing_configured();
    }
    let columns = out::columns();
    let connected = attempts.iter().filter(|attempt| attempt.result.is_ok());
    let servers = connected.map(|attempt| {
        let entries: Vec<&ToolEntry> = snapshot.of(attempt.server.as_str()).collect();
        let head = match entries.len() {
            0 => text!("{}: no tools", attempt.server),
            1 => text!("{}: 1 tool", attempt.server),
            many => text!("{}: {} tools", attempt.server, many),
        };
        let mut text = match entries.first() {
            // How all of them are called in one word, where a config gives the server its name.
            Some(first) if !is_target => text!(
                "{} (qualified name{} {}{})",
                head,
                if entries.len() > 1 { "s" } else { "" },
                AnswerLine(&first.qualified_name),
                if entries.len() > 1 { " …" } else { "" }
            ),
            _ => head,
        }
        .wrapped("", "  ", columns);
        for entry in entries {
            text.push(&brief(&entry.name, &entry.tool, columns));
        }
        text
    });
    Text::join(servers, "\n")
}

/// The tools of a search, each with its server's name.
fn ranked(entries: &[&ToolEntry], words: &str) -> Text {
    if entries.is_empty() {
        return text!("no tool fits {}\n", words);
    }
    let columns = out::columns();
    let mut text = Text::default();
    for entry in entries {
        let name = format!("{}.{}", entry.server, entry.name);
        text.push(&brief(&name, &entry.tool, columns));
    }
    text
}

/// `get-sum(a: number, b: number)`, on one line of a bounded length.
pub(crate) fn signature(name: &str, tool: &Tool) -> Text {
    text!(
        "{}({})",
        AnswerLine(name),
        Text::join(shown_parameters(tool), ", ")
    )
    .clipped(Untrusted::MAX_LINE_CHARS)
}

fn shown_parameters(tool: &Tool) -> Vec<Text> {
    let parameters = signature::parameters(&input_schema(tool)).into_iter();
    parameters
        .map(|parameter| text!("{}", AnswerLine(&parameter.to_string())))
        .collect()
}

/// Where the parameters of a signature go on that is longer than a line.
const PARAMETER_INDENT: &str = "      ";

/// A tool as a signature and the first sentence of its description.
pub(crate) fn brief(name: &str, tool: &Tool, columns: usize) -> Text {
    // A line ends between two parameters, not within one that has room on a line of its own. The
    // first stands behind the name.
    let width = |text: &Text| text.as_str().chars().count();
    let first = width(&text!("  {}(", AnswerLine(name)));
    let parameters = shown_parameters(tool).into_iter().enumerate();
    let parameters = parameters.map(|(at, parameter)| {
        let before = if at == 0 {
            first
        } else {
            PARAMETER_INDENT.len()
        };
        match before + width(&parameter) < columns {
            true => parameter.unbroken(),
            false => parameter,
        }
    });
    let parameters = Text::join(parameters, ", ");
    let signature = text!("{}({})", AnswerLine(name), parameters);
    let mut text = signature.wrapped("  ", PARAMETER_INDENT, columns);
    let description = tool.description.as_deref().or(title(tool));
    let summary = text!(
        "{}",
        AnswerLine(table::summary(description.unwrap_or_default()))
    );
    if !summary.is_empty() {
        text.push(&summary.wrapped("      ", "      ", columns));
    }
    text
}

/// Everything that the server says of a tool, and how it is called: these words name the server on
/// the command line.
pub(crate) fn in_full(words: &[String], server: &ServerName, tool: &Tool) -> Text {
    let columns = out::columns();
    let mut text = text!("{}.{}", server, AnswerLine(&tool.name));
    if let Some(title) = title(tool) {
        text.push(&text!(": {}", AnswerLine(title)));
    }
    let mut text = text.wrapped("", "  ", columns);
    if let Some(description) = tool.description.as_deref() {
        text.push(&text!("\n"));
        let description = text!("{}", Answer(description.trim()));
        text.push(&description.wrapped("  ", "  ", columns));
    }
    let schema = input_schema(tool);
    let parameters = signature::parameters(&schema);
    text.push(&section(
        &text!("\nparameters"),
        &parameters,
        "required",
        columns,
    ));
    if let Some(schema) = &tool.output_schema {
        let results = signature::parameters(&Value::Object((**schema).clone()));
        text.push(&section(
            &text!("\nresult"),
            &results,
            "always present",
            columns,
        ));
    }
    let hints = hints(tool);
    if !hints.is_empty() {
        let hints = text!("the server's hints: {}", hints.join(", "));
        text.push(&text!("\n"));
        text.push(&hints.wrapped("", "  ", columns));
    }
    text.push(&text!("\ncall it:\n"));
    text.push(&example(words, tool, &parameters).wrapped("  ", "      ", columns));
    text
}

fn section(head: &Text, parameters: &[Parameter], required: &'static str, columns: usize) -> Text {
    if parameters.is_empty() {
        return text!("{}: none\n", head);
    }
    let mut text = text!("{}:\n", head);
    for parameter in parameters {
        let shown = format!("{}: {}", parameter.name, parameter.kind);
        let mut line = text!("{}", AnswerLine(&shown));
        let mut notes = Vec::new();
        if parameter.required {
            notes.push(required.to_owned());
        }
        if let Some(default) = parameter.default.as_ref().filter(|value| !value.is_null()) {
            notes.push(format!("default {default}"));
        }
        notes.extend(parameter.limits.iter().cloned());
        if !notes.is_empty() {
            line.push(&text!("  ({})", AnswerLine(&notes.join("; "))));
        }
        text.push(&line.wrapped("  ", "      ", columns));
        if let Some(description) = &parameter.description {
            let description = text!("{}", Answer(description.trim()));
            text.push(&description.wrapped("      ", "      ", columns));
        }
    }
    text
}

/// The annotations in words: what the server claims, not what is so.
fn hints(tool: &Tool) -> Vec<&'static str> {
    let Some(annotations) = &tool.annotations else {
        return Vec::new();
    };
    let words = [
        (annotations.read_only_hint, "read-only", "not read-only"),
        (
            annotations.destructive_hint,
            "destructive",
            "not destructive",
        ),
        (annotations.idempotent_hint, "idempotent", "not idempotent"),
        (annotations.open_world_hint, "open world", "closed world"),
    ];
    words
        .into_iter()
        .filter_map(|(hint, yes, no)| hint.map(|hint| if hint { yes } else { no }))
        .collect()
}

/// The call, with what it needs.
fn example(words: &[String], tool: &Tool, parameters: &[Parameter]) -> Text {
    let quoted = |word: &str| match shlex::try_quote(word) {
        Ok(quoted) => text!("{}", AnswerLine(&quoted)),
        Err(_) => text!("{}", AnswerLine(word)),
    };
    let mut text = text!(
        "{} call {} {}",
        program(),
        Text::join(words.iter().map(|word| quoted(word)), " "),
        quoted(&tool.name)
    );
    for parameter in parameters.iter().filter(|parameter| parameter.required) {
        let value = match parameter.choices.first() {
            Some(Value::String(choice)) => quoted(choice),
            Some(choice) => quoted(&choice.to_string()),
            None => text!("…"),
        };
        text.push(&text!(" {}={}", quoted(&parameter.name), value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_broken_between_words() {
        let property = |n: usize| (format!("property{n}"), json!({"type": "string"}));
        let items = |count: usize| {
            let properties: serde_json::Map<String, Value> = (0..count).map(property).collect();
            json!({"type": "array", "items": {"type": "object", "properties": properties}})
        };
        for count in 1..9 {
            let tool = json!({"name": "create", "inputSchema": {
                "type": "object",
                "properties": {"entities": items(count), "others": items(count)},
            }});
            let tool: Tool = serde_json::from_value(tool).unwrap();
            let shown = brief("create_entities", &tool, 80);
            let lines: Vec<&str> = shown.as_str().lines().collect();
            assert!(
                lines.iter().all(|line| line.chars().count() <= 80),
                "{lines:#?}"
            );
            // Put together again at spaces, nothing was broken elsewhere.
            let words = lines.iter().flat_map(|line| line.split_whitespace());
            let joined = words.collect::<Vec<_>>().join(" ");
            assert_eq!(joined, signature("create_entities", &tool).as_str());
        }
    }

    #[test]
    fn a_signature_of_any_length_is_bounded() {
        let names = (0..5_000).map(|n| (format!("k{n}"), json!({"type": "string"})));
        let properties: serde_json::Map<String, Value> = names.collect();
        let tool =
            json!({"name": "big", "inputSchema": {"type": "object", "properties": properties}});
        let tool: Tool = serde_json::from_value(tool).unwrap();
        let shown = signature("big", &tool);
        assert!(shown.as_str().chars().count() <= Untrusted::MAX_LINE_CHARS);
    }
}
