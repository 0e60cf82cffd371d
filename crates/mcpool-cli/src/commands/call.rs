//! `mcpool call SERVER TOOL …`: calls one tool and shows what it says.

use mcpool::{
    CallOptions, ConnectionManager, Refresh, RequestOptions, Verbs as _, model::CallToolResult,
};
use serde_json::Value;

use super::Outcome;
use crate::{
    app::App,
    args::CallArgs,
    arguments::{self, Object},
    exit::{Exit, Failure},
    render::{
        out,
        text::{Answer, Text},
    },
    text,
};

/// Runs it.
pub(crate) async fn run(app: &App, mut args: CallArgs) -> Outcome {
    let given = args.args.as_deref().map(arguments::read_json).transpose()?;
    let (manager, named) = app
        .connected_named(&args.server, args.tool.as_deref())
        .await?;
    if named.in_one_word {
        // The word behind is no tool, but the first argument.
        args.pairs.splice(..0, args.tool.take());
    }
    let Some(tool) = named.tool else {
        return Err(Failure::usage(text!(
            "which tool of {}? `mcpool tools {}` lists them",
            named.server,
            named.server
        )));
    };
    let arguments = match given {
        Some(object) => object,
        None => {
            let schema = input_schema(manager, &named.server, &tool).await;
            arguments::from_pairs(&args.pairs, schema.as_ref())?
        }
    };
    let mut request = RequestOptions::new();
    if let Some(timeout) = args.timeout {
        request = request.with_timeout(timeout);
    }
    let options = CallOptions::new().with_request(request);
    let result = manager
        .server(&named.server)?
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

/// The tool's schema, when the server lists it: it only helps to read `key=value`.
async fn input_schema(manager: &ConnectionManager, server: &str, tool: &str) -> Option<Object> {
    let tools = manager
        .server(server)
        .ok()?
        .tools(Refresh::IfStale)
        .await
        .ok()?;
    let tool = tools.items.iter().find(|known| known.name == tool)?;
    Some((*tool.input_schema).clone())
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
