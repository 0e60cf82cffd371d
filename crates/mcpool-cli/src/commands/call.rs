//! `mcpool call SERVER TOOL …`: calls one tool and shows what it says.

use mcpool::{
    CallOptions, Refresh, RequestOptions, ServerHandle, Verbs as _, model::CallToolResult,
};
use serde_json::Value;

use super::{Outcome, tools::signature};
use crate::{
    app::App,
    args::CallArgs,
    arguments::{self, Given, Object},
    exit::{Exit, Failure, unknown},
    render::{
        out,
        text::{Answer, Text},
    },
    text,
};

/// Runs it.
pub(crate) async fn run(app: &App, mut args: CallArgs) -> Outcome {
    let (server, tool) = app
        .connected_tool(&args.server, args.tool, &mut args.pairs)
        .await?;
    let given = Given::read(args.pairs, args.args).await?;
    let arguments = fitting(&server, &tool, &given, !args.no_check).await?;
    let mut request = RequestOptions::new();
    if let Some(timeout) = args.timeout {
        request = request.with_timeout(timeout);
    }
    let options = CallOptions::new().with_request(request);
    let result = server
        .with_call_options(options)
        .call_tool(&tool, arguments)
        .await
        .map_err(Failure::call)?;
    if app.global.json {
        out::raw_answer(result.raw())?;
    } else {
        out::print(&to_text(&result))?;
    }
    match result.is_error {
        Some(true) => Ok(Exit::ToolError),
        _ => Ok(Exit::Good),
    }
}

/// The arguments as the tool's schema reads them, when they fit. A server that does not list its
/// tools gets them as they are.
pub(crate) async fn fitting(
    server: &ServerHandle,
    tool: &str,
    given: &Given,
    check: bool,
) -> Result<Object, Failure> {
    let listed = match server.tools(Refresh::IfStale).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(%error, "the tools are not listed, so the arguments are not checked");
            return given.to_object(None);
        }
    };
    let Some(known) = listed.items.iter().find(|known| known.name == tool) else {
        let names: Vec<&str> = listed.items.iter().map(|known| &*known.name).collect();
        let is_rejected = listed.rejected.iter().any(|item| item.name == tool);
        if check && !is_rejected && listed.incomplete.is_none() {
            return Err(unknown("tool", tool, &names)
                .with_hint(text!("nothing was sent; --no-check sends it all the same")));
        }
        return given.to_object(None);
    };
    let arguments = given.to_object(Some(&known.input_schema))?;
    let problems = match check {
        true => arguments::check(&arguments, &known.input_schema),
        false => Vec::new(),
    };
    if problems.is_empty() {
        return Ok(arguments);
    }
    Err(
        Failure::usage(text!("the arguments do not fit {}", signature(tool, known)))
            .with_hints(problems)
            .with_hint(text!(
                "nothing was sent; --no-check sends them all the same"
            )),
    )
}

/// The result for people: text as it is, anything else by what it is.
pub(crate) fn to_text(result: &CallToolResult) -> Text {
    let content = serde_json::to_value(&result.content).unwrap_or_default();
    let mut lines: Vec<String> = content
        .as_array()
        .into_iter()
        .flatten()
        .map(content_text)
        .collect();
    if lines.is_empty()
        && let Some(structured) = &result.structured_content
    {
        lines.push(format!("{structured:#}"));
    }
    let lines = lines.join("\n");
    let mut text = text!("{}", Answer(&lines));
    if !lines.ends_with('\n') {
        text.push(&text!("\n"));
    }
    text
}

/// One content block for people.
pub(crate) fn content_text(block: &Value) -> String {
    let field = |name: &str| block[name].as_str().unwrap_or_default();
    let size = |data: &str| data.len() / 4 * 3;
    match field("type") {
        "text" => field("text").to_owned(),
        kind @ ("image" | "audio") => format!(
            "[{kind}, {}, about {} bytes]",
            field("mimeType"),
            size(field("data"))
        ),
        "resource_link" => format!("[resource {}]", field("uri")),
        "resource" => match block["resource"]["text"].as_str() {
            Some(text) => text.to_owned(),
            None => format!(
                "[resource {}]",
                block["resource"]["uri"].as_str().unwrap_or_default()
            ),
        },
        _ => block.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_for_people() {
        for (block, text) in [
            (json!({"type": "text", "text": "hi"}), "hi"),
            (
                json!({"type": "image", "mimeType": "image/png", "data": "AAAA"}),
                "[image, image/png, about 3 bytes]",
            ),
            (
                json!({"type": "resource_link", "uri": "file:///x"}),
                "[resource file:///x]",
            ),
            (
                json!({"type": "resource", "resource": {"uri": "a", "text": "t"}}),
                "t",
            ),
        ] {
            assert_eq!(content_text(&block), text);
        }
    }
}
