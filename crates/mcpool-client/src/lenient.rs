//! Reads results of servers that keep to the protocol almost.
//!
//! rmcp reads an answer without knowing the question: what fits no known result arrives as raw
//! JSON. Here the question is known, so one bad tool does not cost the whole list, and a content
//! block of an unknown type does not cost the call.

#![allow(
    clippy::result_large_err,
    reason = "the error is the result itself, handed on to be read another way"
)]

use std::time::Duration;

use mcpool_core::{
    Error, RejectedItem, Result,
    model::{
        CallToolResult, CompleteResult, ContentBlock, GetPromptResult, InputRequiredResult, Prompt,
        ReadResourceResult, Resource, ResourceTemplate, ServerResult, Tool,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error_map;

/// Reads a result once more, as what it should be.
pub(crate) fn reread<T: DeserializeOwned>(result: &ServerResult) -> Result<T, String> {
    serde_json::to_value(result)
        .and_then(serde_json::from_value)
        .map_err(|error| error.to_string())
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) rejected: Vec<RejectedItem>,
    pub(crate) next: Option<String>,
    pub(crate) ttl: Option<Duration>,
}

/// What stands in lists.
pub(crate) trait Listed: DeserializeOwned {
    /// The member of the result that holds the list.
    const MEMBER: &'static str;

    /// The page, when the result was recognised as a list of these.
    fn page(result: ServerResult) -> std::result::Result<Page<Self>, ServerResult>;
}

macro_rules! listed {
    ($item:ty, $member:literal, $variant:ident, $field:ident) => {
        impl Listed for $item {
            const MEMBER: &'static str = $member;

            fn page(result: ServerResult) -> std::result::Result<Page<Self>, ServerResult> {
                match result {
                    ServerResult::$variant(list) => Ok(Page {
                        items: list.$field,
                        rejected: Vec::new(),
                        next: list.next_cursor,
                        ttl: list.ttl_ms.map(Duration::from_millis),
                    }),
                    other => Err(other),
                }
            }
        }
    };
}

listed!(Tool, "tools", ListToolsResult, tools);
listed!(Prompt, "prompts", ListPromptsResult, prompts);
listed!(Resource, "resources", ListResourcesResult, resources);
listed!(
    ResourceTemplate,
    "resourceTemplates",
    ListResourceTemplatesResult,
    resource_templates
);

/// Reads a page; item by item where it does not read as a whole.
pub(crate) fn page<T: Listed>(result: ServerResult) -> Result<Page<T>> {
    let value = match T::page(result) {
        Ok(page) => return Ok(page),
        Err(other) => to_value(&other)?,
    };
    let Some(entries) = value.get(T::MEMBER).and_then(Value::as_array) else {
        return Err(error_map::protocol(format!(
            "the answer holds no list of {}",
            T::MEMBER
        )));
    };
    let mut items = Vec::with_capacity(entries.len());
    let mut rejected = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        match serde_json::from_value(entry.clone()) {
            Ok(item) => items.push(item),
            Err(error) => rejected.push(RejectedItem::new(item_name(entry, at), error.to_string())),
        }
    }
    Ok(Page {
        items,
        rejected,
        next: value
            .get("nextCursor")
            .and_then(Value::as_str)
            .map(str::to_owned),
        ttl: value
            .get("ttlMs")
            .and_then(Value::as_u64)
            .map(Duration::from_millis),
    })
}

fn item_name(entry: &Value, at: usize) -> String {
    ["name", "uri", "uriTemplate"]
        .iter()
        .find_map(|member| entry.get(member).and_then(Value::as_str))
        .map_or_else(|| format!("#{}", at + 1), str::to_owned)
}

/// The answer to a request that may need more rounds.
#[derive(Debug)]
pub(crate) enum Round<T> {
    /// The result.
    Complete(T),
    /// The server asks something first.
    InputRequired(InputRequiredResult),
}

/// A result that is not a list.
pub(crate) trait Single: DeserializeOwned {
    /// The result, when it was recognised.
    fn pick(result: ServerResult) -> std::result::Result<Self, ServerResult>;

    /// Makes a result readable that breaks the protocol in a way that harms nobody.
    fn soften(_value: &mut Value) {}
}

impl Single for CallToolResult {
    fn pick(result: ServerResult) -> std::result::Result<Self, ServerResult> {
        match result {
            ServerResult::CallToolResult(result) => Ok(result),
            other => Err(other),
        }
    }

    fn soften(value: &mut Value) {
        let Some(object) = value.as_object_mut() else {
            return;
        };
        match object.get_mut("content") {
            Some(Value::Array(blocks)) => blocks.iter_mut().for_each(soften_block),
            Some(Value::Null) | None => {
                object.insert("content".to_owned(), json!([]));
            }
            Some(single) => {
                soften_block(single);
                let block = single.take();
                object.insert("content".to_owned(), json!([block]));
            }
        }
    }
}

impl Single for GetPromptResult {
    fn pick(result: ServerResult) -> std::result::Result<Self, ServerResult> {
        match result {
            ServerResult::GetPromptResult(result) => Ok(result),
            other => Err(other),
        }
    }

    fn soften(value: &mut Value) {
        if let Some(Value::Array(messages)) = value.get_mut("messages") {
            for message in messages {
                if let Some(content) = message.get_mut("content") {
                    soften_block(content);
                }
            }
        }
    }
}

impl Single for ReadResourceResult {
    fn pick(result: ServerResult) -> std::result::Result<Self, ServerResult> {
        match result {
            ServerResult::ReadResourceResult(result) => Ok(result),
            other => Err(other),
        }
    }
}

impl Single for CompleteResult {
    fn pick(result: ServerResult) -> std::result::Result<Self, ServerResult> {
        match result {
            ServerResult::CompleteResult(result) => Ok(result),
            other => Err(other),
        }
    }
}

/// A content block that cannot be read becomes a text block that holds its JSON.
fn soften_block(block: &mut Value) {
    if serde_json::from_value::<ContentBlock>(block.clone()).is_err() {
        let text = match &*block {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        *block = json!({ "type": "text", "text": text });
    }
}

/// Reads the answer to a request that may need more rounds.
pub(crate) fn round<T: Single>(result: ServerResult) -> Result<Round<T>> {
    let other = match T::pick(result) {
        Ok(result) => return Ok(Round::Complete(result)),
        Err(ServerResult::InputRequiredResult(result)) => return Ok(Round::InputRequired(result)),
        Err(other) => other,
    };
    let mut value = to_value(&other)?;
    // Absent means complete; what is not known is invalid (MCP 2026-07-28, "Results").
    match value.get("resultType").and_then(Value::as_str) {
        None | Some("complete") => {}
        Some(kind) => {
            return Err(error_map::protocol(format!(
                "the server answered with a result of the type {kind:?}, \
                 which this client cannot use"
            )));
        }
    }
    T::soften(&mut value);
    serde_json::from_value(value)
        .map(Round::Complete)
        .map_err(|error| unreadable(&error))
}

/// Reads the answer to a request that needs no more rounds.
pub(crate) fn single<T: Single>(result: ServerResult) -> Result<T> {
    match round(result)? {
        Round::Complete(result) => Ok(result),
        Round::InputRequired(_) => Err(error_map::protocol(
            "the server asks for input where the protocol allows none",
        )),
    }
}

pub(crate) fn to_value(result: &ServerResult) -> Result<Value> {
    serde_json::to_value(result).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Error {
    error_map::protocol(format!("the answer cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::ErrorKind;

    fn parsed(value: Value) -> ServerResult {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn one_bad_tool_does_not_cost_the_list() {
        let good = json!({"name": "good", "inputSchema": {"type": "object"}});
        for bad in [
            json!({"name": "bad"}),
            json!({"name": "bad", "inputSchema": null}),
            json!({"name": "bad", "inputSchema": []}),
            json!({"name": "bad", "inputSchema": true}),
        ] {
            let result = parsed(json!({
                "tools": [good, bad, good], "nextCursor": "2", "ttlMs": 5000,
            }));
            let page = page::<Tool>(result).unwrap();
            assert_eq!(page.items.len(), 2);
            assert_eq!(page.rejected.len(), 1);
            assert_eq!(page.rejected[0].name, "bad");
            assert_eq!(page.next.as_deref(), Some("2"));
            assert_eq!(page.ttl, Some(Duration::from_secs(5)));
        }
        let nameless = parsed(json!({"tools": [{"title": 3}]}));
        assert_eq!(page::<Tool>(nameless).unwrap().rejected[0].name, "#1");
        let no_list = parsed(json!({"tools": "none"}));
        let error = page::<Tool>(no_list).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[test]
    fn an_unknown_content_block_does_not_cost_the_call() {
        let result = parsed(json!({
            "content": [
                {"type": "text", "text": "a"},
                {"type": "hologram", "data": 1},
            ],
            "isError": true,
        }));
        let Round::Complete(result) = round::<CallToolResult>(result).unwrap() else {
            panic!("it is complete");
        };
        assert_eq!(result.is_error, Some(true));
        assert_eq!(result.content.len(), 2);
        let text = &result.content[1].as_text().unwrap().text;
        let original: Value = serde_json::from_str(text).unwrap();
        assert_eq!(original, json!({"type": "hologram", "data": 1}));
    }

    #[test]
    fn an_empty_result_of_a_call_is_an_empty_result() {
        let Round::Complete(result) = round::<CallToolResult>(parsed(json!({}))).unwrap() else {
            panic!("it is complete");
        };
        assert!(result.content.is_empty());
    }

    #[test]
    fn an_unknown_result_type_is_refused() {
        let result = parsed(json!({"content": [], "resultType": "maybe"}));
        let error = round::<CallToolResult>(result).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.message().contains("maybe"));
    }

    #[test]
    fn structured_content_may_be_null() {
        let result = parsed(json!({"content": [], "structuredContent": null}));
        let result: CallToolResult = single(result).unwrap();
        assert_eq!(result.structured_content, Some(Value::Null));
    }
}
